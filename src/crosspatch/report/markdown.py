"""The report as Markdown: the claims, Table 2, and the texts side by side as in the paper's Appendix B.

It reads as plain text and on a repository's page. What models wrote stands in HTML tables, escaped and without a blank
line, so that no Markdown is looked for in it; what users named is escaped for Markdown. Knows nothing of how the
numbers were made, and says what is missing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from crosspatch.characters import legible
from crosspatch.data.problem import Problem
from crosspatch.files import written_whole
from crosspatch.report.answers import Answer, Answers
from crosspatch.report.prompts import Selection, domains_of, prompts_in
from crosspatch.statistics.answers import table2, table2_rows
from crosspatch.statistics.claim import Claim, counted
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.storage.summary import Summary

# Two texts of so many characters stand side by side on a repository's page without scrolling.
WIDTH = 52
# The texts of so many prompts; a repository shows no page of more than half a megabyte.
MOST_PROMPTS = 100
# Of a longer text only the beginning is shown, and that is said.
LONGEST = 6000
_FOLD = "↩"
# Mark the word at which texts part while they are folded and escaped; `legible` leaves neither in any text.
_OPEN, _CLOSE = "\x01", "\x02"
_FIRST_WORD = re.compile(r"\s*\S*")
# What begins something in a line of Markdown; an underscore does so only at the edge of a word.
_ACTIVE = re.compile(r"[\\`*\[\]<>&|~$#]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


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
    """Writes the report and returns its path; see `render_markdown`."""
    text = render_markdown(
        title=title,
        problems=problems,
        scores=scores,
        generations=generations,
        behaviour=behaviour,
        summary=summary,
        n_layers=n_layers,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def render_markdown(
    *,
    title: str,
    problems: Mapping[str, Problem],
    scores: pl.DataFrame | None = None,
    generations: pl.DataFrame | None = None,
    behaviour: pl.DataFrame | None = None,
    summary: Summary | None = None,
    n_layers: int | None = None,
) -> str:
    """The report as a string; any of the frames may be missing or empty.

    `summary` has the claims; None: made here of scores and answers alone. `n_layers` is the model's depth (None: the
    highest patched layer counts as the last). Raises ValueError for a patched prompt that `problems` lacks.
    """
    summary = summary or Summary.of(domains_of(problems), scores=scores, behaviour=behaviour, n_layers=n_layers)
    blocks = [
        f"# {_plain(title)}",
        "What the numbers show, how each model answered, and the texts that were patched, side by side. "
        "Pictures and all numbers are in `report.html`.",
        "## Claims",
        *_claims(summary.claims),
        "## Answers",
        *_answers(behaviour),
        "## Texts",
        *_texts(problems, scores, generations, behaviour, summary, n_layers),
    ]
    return "\n\n".join(blocks) + "\n"


def _claims(claims: Sequence[Claim]) -> Iterator[str]:
    if not claims:
        yield "No claims: this run has no scores and no answers from which any could be made."
        return
    yield (
        f"{counted(claim.verdict for claim in claims)}. What decides is an interval of 95 % over prompts: of the "
        "difference from the control in the same cells or questions, or of the number itself where it is compared with "
        "a fixed one. n_eff is the effective number of prompts (Kish)."
    )
    yield "\n".join(map(_claim, claims))


def _claim(claim: Claim) -> str:
    line = f"- **{claim.verdict}**: {_plain(claim.statement)}: {claim.found}, {_plain(claim.control)}: {claim.compared}"
    line += claim.test
    return line if claim.reason is None else f"{line}. Why not shown: {_plain(claim.reason)}"


def _answers(behaviour: pl.DataFrame | None) -> Iterator[str]:
    if behaviour is None or behaviour.is_empty():
        yield "No answers were graded in this run."
        return
    rows = table2_rows(table2(behaviour))
    domains = ordered_domains(domain for row in rows for domain in row.outcomes)
    yield (
        "The paper's Table 2, counted: correct answers of those asked (one that could not be read is unparsed, not "
        "wrong), and what was done to both sides of the equation, where an operation was expected."
    )
    lines = [["model", *(_plain(domain_title(domain)) for domain in domains)], ["---"] * (len(domains) + 1)]
    for row in rows:
        outcomes = [row.outcomes.get(domain) for domain in domains]
        cells = ["not asked" if of is None else "; ".join(filter(None, (of.answers, of.operations))) for of in outcomes]
        lines.append([_plain(row.label), *cells])
    yield "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _texts(
    problems: Mapping[str, Problem],
    scores: pl.DataFrame | None,
    generations: pl.DataFrame | None,
    behaviour: pl.DataFrame | None,
    summary: Summary,
    n_layers: int | None,
) -> Iterator[str]:
    patched = scores
    if (scores is None or scores.is_empty()) and generations is not None:
        patched = generations.filter(condition="patched")
    if patched is None or patched.is_empty():
        yield "No prompt was patched in this run."
        return
    ran_on = "clean" if summary.patched == "corrupt" else "corrupted"
    yield (
        "As in the paper's Appendix B: of each patched prompt the clean text, the corrupted one, and patched ones: "
        f"that of the lowest layer whose text is not the {ran_on} one (the {ran_on} model is patched), and that of the "
        "highest layer below the last (at the last the patch replaces all that is unembedded). The word at which a "
        f"text parts from the clean one is bold. A line that ends with {_FOLD} is broken here, not in the text. All "
        "texts are in `generations.parquet`."
    )
    selection = Selection.of(prompts_in(patched, problems), problems, MOST_PROMPTS)
    if selection.left_out:
        yield (
            f"Here are those of {selection.counted}. Left out are {len(selection.left_out):,}: "
            f"{', '.join(map(_plain, selection.names))}."
        )
    texts, grades = (
        {} if frame is None else frame.partition_by("prompt_id", as_dict=True, maintain_order=True)
        for frame in (generations, behaviour)
    )
    domain = None
    for number, prompt_id in enumerate(selection.shown, start=1):
        problem = problems[prompt_id]
        if problem.domain != domain:
            domain = problem.domain
            yield f"### {_plain(domain_title(domain))}"
        yield f"#### {number}. {_plain(prompt_id)}"
        facts = [("question", problem.question), ("right answer", problem.answer or "not known")]
        yield _table([[(name, _pre(legible(text))) for name, text in facts]])
        rows = texts.get((prompt_id,))
        answers = None if rows is None else Answers.of(prompt_id, rows, grades.get((prompt_id,)))
        if answers is None or not (answers.clean or answers.corrupted or answers.patched):
            yield "No texts were kept of this prompt."
            continue
        chosen = shown_patches(answers, n_layers, ran_on=ran_on)
        clean = answers.clean
        pair = [_cell("clean", clean, clean), _cell("corrupted", answers.corrupted, clean)]
        rest = [_cell(f"patched, {answer.patch}, {why}", answer, clean) for answer, why in chosen]
        yield _table([pair, rest or [("patched", "no text")]])


def shown_patches(answers: Answers, n_layers: int | None, ran_on: str = "clean") -> list[tuple[Answer, str]]:
    """The patched texts to show, lowest first, and why these: the lowest that is changed, the highest below the last.

    Of single layers of one component (`resid_post` where it was patched) if there are any, else of all patches in
    their order. `ran_on` is the model that was patched: a text is changed where it is not that model's.
    """
    patched = [answer for answer in answers.patched if answer.condition == "patched"]
    layers, place = _single_layers(patched), "layer"
    last = (n_layers or 0) - 1
    if not layers:
        layers, place = list(enumerate(patched)), "patch"
    if n_layers is None or place == "patch":
        last = max((at for at, _ in layers), default=0)
    own = answers.clean if ran_on == "clean" else answers.corrupted
    changed = [answer.patch for _, answer in layers if own is not None and _text(answer) != _text(own)]
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


def _text(answer: Answer) -> str:
    return answer.shared + answer.own


def _cell(name: str, answer: Answer | None, clean: Answer | None) -> tuple[str, str]:
    """The heading of a text, and the text; both may hold anything."""
    if answer is None:
        return name, "no text"
    said = [answer.verdict or "not graded"]
    if answer.operation:
        said.append(f"operation {answer.operation}")
    shown = answer.shared + answer.own
    if clean is not None and answer is not clean:
        if answer.patch is not None or _text(clean) == shown:
            said.append(answer.likeness)
        if not answer.own and _text(clean) != shown:
            said.append("ends where the clean one goes on")
        elif _text(clean) != shown:
            end = _FIRST_WORD.match(answer.own).end()  # type: ignore[union-attr]
            shown = answer.shared + _OPEN + answer.own[:end] + _CLOSE + answer.own[end:]
    return f"{name}: {', '.join(said)}", _pre(shown)


def _table(rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Cells with headings, as HTML without a blank line: at one, Markdown would begin again."""
    lines = ["<table>"]
    for row in rows:
        lines += ["<tr>", *(f"<th>{_one_line(heading)}</th>" for heading, _ in row), "</tr>"]
        lines += ["<tr>", *(f'<td valign="top">{cell}</td>' for _, cell in row), "</tr>"]
    return "\n".join([*lines, "</table>"])


def _pre(text: str) -> str:
    """Legible text as it stands, in lines of a bearable width, escaped, and without a blank line."""
    if len(text) > LONGEST:
        text, whole = text[:LONGEST], len(text) - text.count(_OPEN) - text.count(_CLOSE)
        text += f"… ({whole:,} characters)" + _CLOSE * (text.count(_OPEN) - text.count(_CLOSE))
    lines = ""
    for line in (part for paragraph in text.split("\n") for part in _folded(paragraph)):
        escaped = html.escape(line, quote=False).replace(_OPEN, "<b>").replace(_CLOSE, "</b>")
        if not line:
            # Stands at the beginning of the next line.
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
    """A name, which may hold anything, within a line of Markdown: shown as it is, cut at 200 characters."""
    shown = legible(text[:200].replace("\n", " ").replace("\t", " ")) + ("…" if len(text) > 200 else "")
    return _ACTIVE.sub(r"\\\g<0>", shown.strip())
