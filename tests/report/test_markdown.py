"""The report as Markdown: complete, readable, and with nothing of what models wrote acting in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from markdown_it import MarkdownIt

from crosspatch.characters import legible
from crosspatch.data.problem import Problem
from crosspatch.report.answers import Answer, prompt_answers
from crosspatch.report.markdown import LONGEST, WIDTH, shown_patches, write_markdown
from crosspatch.statistics.claim import Claim
from crosspatch.statistics.interval import Interval
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, GENERATIONS, SCORES

from .conftest import HOSTILE, generation, score

# Each of these ends, begins or is something in Markdown or HTML.
ACTING = [
    *HOSTILE,
    "</pre></td></tr></table>\n\n# heading\n\n- item\n\n    code\n\n***\n",
    "\n\n\n<img src=x onerror=alert(1)>\n\n",
    "```\nfence\n```\n~~~\n",
    "`code` **bold** _it_ ~~no~~ [a](javascript:alert(1)) ![i](x) <https://example.org> | cell |\n|---|\n",
    "[a]: https://example.org\n\n[a]\n",
    "&lt;b&gt; &#10; &amp; \\* $$x$$ <!-- -->",
    "   \n \n\t\n",
    "\r\n\x01bold\x02\x00",
    "\ud83d lone \udc00",
    "<?php ?> <![CDATA[ ]]> <!DOCTYPE x>\n\n</p>",
]


def render_markdown(**frames: Any) -> str:
    with TemporaryDirectory() as folder:
        return write_markdown(Path(folder) / "report.md", **frames).read_text(encoding="utf-8")


class Rendered(HTMLParser):
    """What a repository's page would hold: elements with their attributes, the cells' texts and all text."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[tuple[str, str | None]] = set()
        self.texts: list[str] = []
        self.text = ""
        self._inside = False
        html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= set(attrs)
        if tag == "pre":
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._inside:
            # HTML drops a line break right after <pre>; ours stands there for whoever reads the source.
            self.texts[-1] += data

    def cells(self) -> list[str]:
        """The texts as they were, put together again where they were broken."""
        return [re.sub("↩\n", "", text.removeprefix("\n").removesuffix("\n")) for text in self.texts]


@pytest.fixture
def full(scores: pl.DataFrame, generations: pl.DataFrame, behaviour: pl.DataFrame, problems: dict[str, Problem]) -> str:
    return render_markdown(
        title="Demo", problems=problems, scores=scores, generations=generations, behaviour=behaviour, n_layers=30
    )


def test_it_holds_the_texts_side_by_side(full: str) -> None:
    page = Rendered(full)
    assert page.cells() == [
        "Solve for x: $8x = 41$",
        "41/8",
        "Divide by 8. x = 5",
        "Divide it. x = 4",
        "Divide by 8. x = 5",
        "Divide by 8. x = 4",
    ]
    for sentence in (
        "1. p",
        "clean: correct, operation right",
        "corrupted: unparsed, operation planted",
        "patched, L6.resid_post, the highest layer below the last: not graded, the clean text",
        "patched, L29.resid_post, the lowest layer whose text is changed: incorrect, operation planted, a text of",
        "0/1 (1 unparsed); 0 right · 1 planted · 0 neither",
    ):
        assert sentence in page.text
    # The word at which a text parts from the clean one.
    assert re.findall("<b>(.*?)</b>", full) == ["it.", "4"]
    # The source has a text's lines as lines.
    assert "\nDivide <b>it.</b> x = 4\n" in full


def test_claims_are_said_with_their_numbers(problems: dict[str, Problem]) -> None:
    high, low = Interval(0.9, 0.8, 1.0), Interval(0.1, 0.0, 0.2)
    claims = [
        Claim("a", "it *builds* up", high, "random", low, p_value=0.01),
        Claim("b", "it does not", low, "twin", high, difference=Interval(-0.8, -1.0, -0.6)),
    ]
    empty = Summary.of({})
    summary = Summary(**{**vars(empty), "claims": claims})
    text = render_markdown(title="t", problems=problems, summary=summary)
    assert "1 shown, 1 contradicted, 0 undecided." in text
    assert "- **shown**: it \\*builds\\* up: 0.90 [0.80, 1.00], random: 0.10 [0.00, 0.20], p = 0.01\n" in text
    assert "- **contradicted**: it does not: 0.10 [0.00, 0.20], twin: 0.90 [0.80, 1.00], difference −0.80 [" in text
    assert "Why not shown: the difference, −0.80" in text
    assert "em" not in Rendered(text).tags


@pytest.mark.parametrize("empty", [False, True])
def test_what_is_missing_is_said(empty: bool, problems: dict[str, Problem]) -> None:
    frames: dict[str, Any] = {}
    if empty:
        frames = {"scores": SCORES.frame(), "generations": GENERATIONS.frame(), "behaviour": BEHAVIOUR.frame()}
    text = render_markdown(title="Nothing", problems={}, **frames)
    for sentence in ("No claims", "No answers were graded in this run.", "No prompt was patched in this run."):
        assert sentence in text
    # Scores whose texts are not there yet, and texts whose scores are not.
    assert "No texts were kept of this prompt." in render_markdown(
        title="t", problems=problems, scores=SCORES.frame([score(3, 0)])
    )
    half = GENERATIONS.frame([generation("patched", "x = 4", "L3.resid_post")])
    page = Rendered(render_markdown(title="t", problems=problems, generations=half))
    assert page.text.count("no text") == 2
    assert "x = 4" in page.text
    assert "b" not in page.tags
    only_clean = GENERATIONS.frame([generation("clean", "x = 4")])
    page = Rendered(
        render_markdown(title="t", problems=problems, scores=SCORES.frame([score(3, 0)]), generations=only_clean)
    )
    assert page.text.count("no text") == 2


@pytest.mark.parametrize("written", [*ACTING, "".join(ACTING)])
def test_nothing_that_a_model_wrote_acts(written: str, full: str, behaviour: pl.DataFrame) -> None:
    # A table holds no half of a surrogate pair; questions and titles may.
    kept = written.encode("utf-8", "replace").decode()
    problems = {kept: Problem(kept, "related", "f", written, written)}
    texts = GENERATIONS.frame(
        generation(condition, text, patch, kept)
        for condition, text, patch in (
            ("clean", kept, None),
            ("corrupted", f"first {kept}", None),
            ("patched", kept, "L1.resid_post"),
        )
    )
    graded = behaviour.with_columns(condition=pl.lit(kept))
    text = render_markdown(title=written, problems=problems, generations=texts, behaviour=graded)
    page = Rendered(text)
    assert set(page.tags) <= set(Rendered(full).tags)
    assert page.attributes == {("valign", "top")}
    for tag in ("code", "table", "h1", "h2", "h3", "h4"):
        assert page.tags.count(tag) == Rendered(full).tags.count(tag)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\u200f\u2028\ud800-\udfff]", text.replace("\t", ""))
    # Nothing is lost but what lies beyond the longest that is shown.
    question, answer, clean, corrupted, *_ = page.cells()
    if len(legible(written)) < LONGEST:
        assert [question, clean, corrupted] == [legible(written), legible(kept), legible(f"first {kept}")]
        assert answer == (legible(written) or "not known")
    else:
        assert clean.startswith(legible(kept)[:LONGEST])
        assert "characters)" in clean
    assert all(len(line) <= WIDTH + 3 for cell in page.texts for line in cell.split("\n"))


def test_the_parser_would_notice_what_acts() -> None:
    page = Rendered("<table><tr><td><pre>\n" + ACTING[len(HOSTILE)] + "</pre></td></tr></table>")
    assert {"h1", "li", "hr"} <= set(page.tags)


def answers(*patched: tuple[str, str], corrupted: str = "b") -> list[Answer]:
    rows = [generation("clean", "a"), generation("corrupted", corrupted)]
    return prompt_answers(GENERATIONS.frame(rows + [generation("patched", t, patch) for patch, t in patched]), None)


@pytest.mark.parametrize(
    ("patched", "n_layers", "shown"),
    [
        (
            [("L1.resid_post", "a"), ("L5.resid_post", "c"), ("L9.resid_post", "d"), ("L10.resid_post", "b")],
            11,
            ["L5", "L9"],
        ),
        # One that is both, one that changes nothing, the last layer alone, and layers below an unpatched last one.
        ([("L1.resid_post", "a"), ("L9.resid_post", "d"), ("L10.resid_post", "b")], 11, ["L9"]),
        ([("L1.resid_post", "a"), ("L9.resid_post", "a")], 11, ["L9"]),
        ([("L10.resid_post", "b")], 11, ["L10"]),
        ([("L1.resid_post", "c"), ("L9.resid_post", "d")], 30, ["L1", "L9"]),
        ([("L1.resid_post", "c"), ("L9.resid_post", "d")], None, ["L1"]),
        # Another component does not stand in for the one that is shown.
        ([("L1.attn_out", "c"), ("L2.resid_post", "a"), ("L3.resid_post", "c"), ("L4.resid_post", "b")], 5, ["L3"]),
        ([], 5, []),
    ],
)
def test_which_patched_texts_are_shown(patched: list[tuple[str, str]], n_layers: int | None, shown: list[str]) -> None:
    found = shown_patches(answers(*patched), n_layers)
    assert [str(answer.patch).partition(".")[0] for answer, _ in found] == shown


def test_the_choice_is_explained() -> None:
    [(_, why)] = shown_patches(answers(("L9.resid_post", "d"), ("L10.resid_post", "b")), 11)
    assert why == "the lowest layer whose text is changed, the highest layer below the last"
    [(_, why)] = shown_patches(answers(("L9.resid_post", "a"), ("L10.resid_post", "a")), 11)
    assert why == "the highest layer below the last, no layer changes the text"
    found = shown_patches(answers(("L3.head.1", "a"), ("L4.head.2", "c"), ("L5-7.resid_post", "a")), 11)
    assert [(answer.patch, why) for answer, why in found] == [
        ("L4.head.2", "the lowest patch whose text is changed, the highest patch below the last")
    ]
    # In the repair direction the corrupted model is the one that is patched.
    [(answer, _), _] = shown_patches(
        answers(("L1.resid_post", "b"), ("L2.resid_post", "a"), ("L3.resid_post", "a"), ("L4.resid_post", "a")),
        5,
        "corrupted",
    )
    assert answer.patch == "L2.resid_post"


def test_it_is_written_whole(tmp_path: Path, scores: pl.DataFrame, problems: dict[str, Problem]) -> None:
    path = write_markdown(tmp_path / "out" / "report.md", title="first", problems=problems, scores=scores)
    before = path.read_bytes()
    assert before.startswith(b"# first\n")
    with pytest.raises(ValueError, match="'p'"):
        write_markdown(path, title="second", problems={}, scores=scores)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["report.md"]
