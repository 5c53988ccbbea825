"""The report as Markdown: the texts of one prompt, the claims, Table 2, and all texts as in the paper's Appendix B.

It can be read as plain text and on a repository page. Generated texts are in HTML tables, escaped and without blank
lines, so they are not read as Markdown; names are escaped for Markdown. The template is templates/report.md.j2.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.data.problem import Problem
from crosspatch.report.answers import Answer, prompt_answers, unpatched
from crosspatch.report.prompts import Selection, domains_of, most_telling, prompts_in
from crosspatch.report.tables import AnswerTable
from crosspatch.report.template import environment, write_page
from crosspatch.statistics.answers import table2, table2_rows
from crosspatch.statistics.claim import counted
from crosspatch.statistics.domain import domain_title
from crosspatch.storage.summary import Summary

# Characters in a line of a text: two texts of this width fit side by side on a repository's page without scrolling.
WIDTH = 52
# The number of prompts whose texts are shown; a repository shows no page of more than half a megabyte.
MOST_PROMPTS = 100
# Characters of a text that are shown; a longer one states its length.
LONGEST = 6000
_FOLD = "↩"
# Placeholders for <b> and </b> until a text is wrapped and escaped; `legible` removes both characters from all texts.
_OPEN, _CLOSE = "\x01", "\x02"
_FIRST_WORD = re.compile(r"\s*\S*")
# Characters with a meaning in a line of Markdown; an underscore has one only at the edge of a word.
_ACTIVE = re.compile(r"[\\`*\[\]<>&|~$#]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)

# Cells with their headings.
Row = Sequence[tuple[str, str]]


def write_markdown(
    path: Path,
    *,
    title: str,
    problems: Mapping[str, Problem],
    scores: pl.DataFrame | None = None,
    generations: pl.DataFrame | None = None,
    behaviour: pl.DataFrame | None = None,
    summary: Summary | None = None,
    n_layers: int | None = None,
) -> Path:
    """Write the report and return its path; any of the frames may be missing or empty.

    `summary` has the claims; None: computed here from scores and answers alone. `n_layers` is the model's depth (None:
    the highest patched layer counts as the last). Raises ValueError for a patched prompt that `problems` lacks.
    """
    summary = summary or Summary.of(domains_of(problems), scores=scores, behaviour=behaviour, n_layers=n_layers)
    target = "clean" if summary.patched == "corrupt" else "corrupted"
    measured = scores
    if (scores is None or scores.is_empty()) and generations is not None:
        scores = generations.filter(condition="patched")
    prompts = [] if scores is None else prompts_in(scores, problems)
    selection = Selection.of(prompts, problems, MOST_PROMPTS)
    texts, grades = (
        {} if frame is None else frame.partition_by("prompt_id", as_dict=True, maintain_order=True)
        for frame in (generations, behaviour)
    )
    shown = [
        _prompt(problems[name], texts.get((name,)), grades.get((name,)), n_layers, target) for name in selection.shown
    ]
    first = most_telling(measured, problems, selection.shown)
    text = (
        environment()
        .get_template("report.md.j2")
        .render(
            title=title,
            claims=summary.claims,
            verdicts=counted(claim.verdict for claim in summary.claims),
            answers=None
            if behaviour is None or behaviour.is_empty()
            else AnswerTable.of(table2_rows(table2(behaviour))),
            selection=selection,
            prompts=shown,
            first=shown[first] if shown else None,
            target=target,
            fold=_FOLD,
            table=_table,
            plain=_plain,
        )
    )
    return write_page(path, text)


def _prompt(
    problem: Problem, texts: pl.DataFrame | None, grades: pl.DataFrame | None, n_layers: int | None, target: str
) -> dict[str, Any]:
    """One prompt: its question, the right answer, and its texts in pairs."""
    facts = [("question", problem.question), ("right answer", problem.answer or "not known")]
    answers = [] if texts is None else prompt_answers(texts, grades)
    clean, corrupted = (unpatched(answers, name) for name in ("clean", "corrupted"))
    chosen = shown_patches(answers, n_layers, target)
    rest = [_cell(f"patched, {answer.patch}, {why}", answer, clean) for answer, why in chosen]
    pair = [_cell("clean", clean, clean), _cell("corrupted", corrupted, clean)]
    return {
        "id": problem.id,
        "domain": domain_title(problem.domain),
        "facts": [(name, _pre(legible(text))) for name, text in facts],
        "texts": [pair, rest or [("patched", "no text")]] if clean or corrupted or rest else [],
    }


def shown_patches(answers: Sequence[Answer], n_layers: int | None, target: str = "clean") -> list[tuple[Answer, str]]:
    """The patched texts to show, with reasons: the lowest layer that changes the text, the highest below the last.

    Only single layers of one component count (`resid_post` if it was patched), or all patches in their order if there
    are no single layers. `target` is the patched model; a text is changed where it differs from that model's own.
    """
    patched = [answer for answer in answers if answer.condition == "patched"]
    layers, place = _single_layers(patched), "layer"
    last = (n_layers or 0) - 1
    if not layers:
        layers, place = list(enumerate(patched)), "patch"
    if n_layers is None or place == "patch":
        last = max((at for at, _ in layers), default=0)
    own = unpatched(answers, target)
    changed = [answer.patch for _, answer in layers if own is not None and answer.text != own.text]
    below = [answer.patch for at, answer in layers if at < last]
    reasons: dict[str | None, list[str]] = {}
    if changed:
        reasons[changed[0]] = [f"the lowest {place} whose text is changed"]
    if below:
        reasons.setdefault(below[-1], []).append(f"the highest {place} below the last")
    if not reasons and layers:
        reasons[layers[-1][1].patch] = [f"the last {place}"]
    if layers and own is not None and not changed:
        next(iter(reasons.values())).append(f"no {place} changes the text")
    return [(answer, ", ".join(reasons[answer.patch])) for answer in patched if answer.patch in reasons]


def _single_layers(patched: Sequence[Answer]) -> list[tuple[int, Answer]]:
    found = [(*answer.single, answer) for answer in patched if answer.single is not None]
    kinds = [kind for kind, *_ in found]
    whole = ("resid_post", "all")
    wanted = whole if whole in kinds else next(iter(kinds), None)
    return [(layer, answer) for kind, layer, answer in found if kind == wanted]


def _cell(name: str, answer: Answer | None, clean: Answer | None) -> tuple[str, str]:
    """The heading of a text, and the text as HTML."""
    if answer is None:
        return name, "no text"
    facts = [answer.verdict or "not graded"]
    if answer.operation:
        facts.append(f"operation {answer.operation}")
    text = answer.text
    if clean is not None and answer is not clean:
        if answer.patch is not None or clean.text == text:
            facts.append(answer.likeness)
        if not answer.own and clean.text != text:
            facts.append("ends before the clean one")
        elif clean.text != text:
            end = _FIRST_WORD.match(answer.own).end()  # type: ignore[union-attr]
            text = answer.shared + _OPEN + answer.own[:end] + _CLOSE + answer.own[end:]
    return f"{name}: {', '.join(facts)}", _pre(text)


def _table(rows: Sequence[Row]) -> str:
    """Cells with headings, as HTML without blank lines, which would end the HTML in Markdown."""
    lines = ["<table>"]
    for row in rows:
        lines += ["<tr>", *(f"<th>{_one_line(heading)}</th>" for heading, _ in row), "</tr>"]
        lines += ["<tr>", *(f'<td valign="top">{cell}</td>' for _, cell in row), "</tr>"]
    return "\n".join([*lines, "</table>"])


def _pre(text: str) -> str:
    """Legible text, wrapped, escaped and without blank lines."""
    if len(text) > LONGEST:
        text, whole = text[:LONGEST], len(text) - text.count(_OPEN) - text.count(_CLOSE)
        text += f"… ({whole:,} characters)" + _CLOSE * (text.count(_OPEN) - text.count(_CLOSE))
    lines = ""
    for line in (part for paragraph in text.split("\n") for part in _folded(paragraph)):
        escaped = html.escape(line, quote=False).replace(_OPEN, "<b>").replace(_CLOSE, "</b>")
        if not line:
            # The line break is at the start of the next line.
            lines += "&#10;"
        elif line.isspace():
            lines += f"&#{ord(line[0])};{escaped[1:]}\n"
        else:
            lines += f"{escaped}\n"
    return f"<pre>\n{lines}</pre>"


def _folded(line: str) -> Iterator[str]:
    while len(line) > WIDTH:
        end = line.rfind(" ", WIDTH // 2, WIDTH) + 1 or WIDTH - 1
        yield line[:end] + _FOLD
        line = line[end:]
    yield line


def _one_line(text: str) -> str:
    return html.escape(legible(text.replace("\n", " ")), quote=False)


def _plain(text: str) -> str:
    """A name escaped for a line of Markdown, cut at 200 characters."""
    shown = legible(text[:200].replace("\n", " ").replace("\t", " ")) + ("…" if len(text) > 200 else "")
    return _ACTIVE.sub(r"\\\g<0>", shown.strip())
