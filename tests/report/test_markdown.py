"""The report as Markdown: complete, readable, and with nothing of what models wrote acting in it."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from markdown_it import MarkdownIt

from crosspatch.characters import legible
from crosspatch.data.problem import Problem
from crosspatch.report.answers import prompt_answers
from crosspatch.report.markdown import LONGEST, WIDTH, shown_patches, write_markdown
from crosspatch.statistics.claim import Claim
from crosspatch.statistics.interval import Interval
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, GENERATIONS, SCORES
from html_reader import HOSTILE, Reader

from .conftest import GENERATED, GRADED, PROBLEMS, SCORED, generation, score

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


def render_markdown(title: str = "t", **frames: Any) -> str:
    with TemporaryDirectory() as folder:
        return write_markdown(Path(folder) / "report.md", title=title, **frames).read_text(encoding="utf-8")


class Rendered(Reader):
    """What a repository's page would hold, and its texts."""

    def __init__(self, markdown: str) -> None:
        html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
        super().__init__(html)
        self.texts = [unescape(re.sub("<.*?>", "", text)) for text in re.findall("<pre>(.*?)</pre>", html, re.DOTALL)]

    def cells(self) -> list[str]:
        """The texts as they were, put together again where they were broken; their first line break is dropped."""
        return [re.sub("↩\n", "", text.removeprefix("\n").removesuffix("\n")) for text in self.texts]


@pytest.fixture(scope="module")
def full() -> str:
    return render_markdown(problems=PROBLEMS, scores=SCORED, generations=GENERATED, behaviour=GRADED, n_layers=30)


def test_it_holds_the_texts_side_by_side(full) -> None:
    page = Rendered(full)
    question, texts = ["Solve for x: $8x = 41$", "41/8"], ["Divide by 8. x = 5", "Divide it. x = 4"]
    assert page.cells() == [*question, *texts, "Divide by 8. x = 5", "Divide by 8. x = 4"]
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


def test_claims_are_said_with_their_numbers() -> None:
    high, low = Interval(0.9, 0.8, 1.0), Interval(0.1, 0.0, 0.2)
    claims = [
        Claim("a", "it *builds* up", high, "random", low, p_value=0.01),
        Claim("b", "it does not", low, "twin", high, difference=Interval(-0.8, -1.0, -0.6)),
    ]
    text = render_markdown(problems=PROBLEMS, summary=replace(Summary.of({}), claims=claims))
    assert "1 shown, 1 contradicted, 0 undecided." in text
    assert "- **shown**: it \\*builds\\* up: 0.90 [0.80, 1.00], random: 0.10 [0.00, 0.20], p = 0.01\n" in text
    assert "- **contradicted**: it does not: 0.10 [0.00, 0.20], twin: 0.90 [0.80, 1.00], difference −0.80 [" in text
    assert "Why not shown: the difference, −0.80" in text
    assert "details" not in (tags := Rendered(text).tags)
    assert "em" not in tags
    claims.insert(0, Claim("c", "it may", high, "twin", low, difference=Interval(0.1, -0.1, 0.3)))
    text = render_markdown(problems=PROBLEMS, summary=replace(Summary.of({}), claims=claims))
    assert re.search(r"does not.*\n\n<details><summary>[^<]*: 1</summary>\n\n- \*\*undecided.*\n\n</details>\n", text)


def test_what_is_missing_is_said() -> None:
    empty = {"scores": SCORES.frame(), "generations": GENERATIONS.frame(), "behaviour": BEHAVIOUR.frame()}
    for text in (render_markdown(problems={}), render_markdown(problems={}, **empty)):
        for sentence in ("No claims", "No answers were graded in this run.", "No prompt was patched in this run."):
            assert sentence in text
    # Scores whose texts are not there yet, texts whose scores are not, and the clean text alone.
    scores = SCORES.frame([score(3, 0)])
    assert "No texts of this prompt were kept." in render_markdown(problems=PROBLEMS, scores=scores)
    for text, kept in ((("patched", "x = 4", "L3.resid_post"), None), (("clean", "x = 4"), scores)):
        texts = GENERATIONS.frame([generation(*text)])
        page = Rendered(render_markdown(problems=PROBLEMS, scores=kept, generations=texts))
        assert page.text.count("no text") == 2
        assert "x = 4" in page.text
        assert "b" not in page.tags


@pytest.mark.parametrize("written", [*ACTING, "".join(ACTING)])
def test_nothing_that_a_model_wrote_acts(written: str, full: str) -> None:
    # A table holds no half of a surrogate pair; questions and titles may.
    kept = written.encode("utf-8", "replace").decode()
    problems = {kept: Problem(kept, "related", "f", written, written)}
    written_texts = (("clean", kept, None), ("corrupted", f"first {kept}", None), ("patched", kept, "L1.resid_post"))
    texts = [generation(*text, prompt_id=kept) for text in written_texts]
    graded = GRADED.with_columns(condition=pl.lit(kept))
    text = render_markdown(written, problems=problems, generations=GENERATIONS.frame(texts), behaviour=graded)
    found, page = Rendered(text), Rendered(full)
    assert found.tags.keys() <= page.tags.keys()
    assert not found.open
    assert found.attributes.keys() == {("valign", "top")}
    for tag in ("code", "table", "h1", "h2", "h3", "h4"):
        assert found.tags[tag] == page.tags[tag]
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\u200f\u2028\ud800-\udfff]", text.replace("\t", ""))
    # Nothing is lost but what lies beyond the longest that is shown.
    question, answer, clean, corrupted, *_ = found.cells()
    if len(legible(written)) < LONGEST:
        assert [question, clean, corrupted] == [legible(written), legible(kept), legible(f"first {kept}")]
        assert answer == (legible(written) or "not known")
    else:
        assert clean.startswith(legible(kept)[:LONGEST])
        assert "characters)" in clean
    assert all(len(line) <= WIDTH + 3 for cell in found.texts for line in cell.split("\n"))


def test_the_parser_would_notice_what_acts() -> None:
    assert {"h1", "li", "hr"} <= Rendered("<table><tr><td><pre>\n" + ACTING[len(HOSTILE)]).tags.keys()


def shown(n_layers: int | None, *patched: tuple[str, str], target: str = "clean") -> list[tuple[str | None, str]]:
    """The patches that are shown, and why, of a prompt whose clean text is "a" and whose corrupted text is "b"."""
    rows = [generation("clean", "a"), generation("corrupted", "b")]
    rows += [generation("patched", text, patch if "." in patch else f"{patch}.resid_post") for patch, text in patched]
    found = shown_patches(prompt_answers(GENERATIONS.frame(rows), None), n_layers, target)
    return [(answer.patch, why) for answer, why in found]


@pytest.mark.parametrize(
    ("patched", "n_layers", "layers"),
    [
        ([("L1", "a"), ("L5", "c"), ("L9", "d"), ("L10", "b")], 11, ["L5", "L9"]),
        # The last layer alone, and layers below an unpatched last one.
        ([("L10", "b")], 11, ["L10"]),
        ([("L1", "c"), ("L9", "d")], 30, ["L1", "L9"]),
        ([("L1", "c"), ("L9", "d")], None, ["L1"]),
        # Another component does not stand in for the one that is shown.
        ([("L1.attn_out", "c"), ("L2", "a"), ("L3", "c"), ("L4", "b")], 5, ["L3"]),
        ([], 5, []),
    ],
)
def test_which_patched_texts_are_shown(patched: list[tuple[str, str]], n_layers: int | None, layers: list[str]) -> None:
    assert [str(patch).partition(".")[0] for patch, _ in shown(n_layers, *patched)] == layers


def test_the_choice_is_explained() -> None:
    changed, below = "the lowest {} whose text is changed", "the highest {} below the last"
    both = f"{changed}, {below}"
    assert shown(11, ("L1", "a"), ("L9", "d"), ("L10", "b")) == [("L9.resid_post", both.format("layer", "layer"))]
    unchanged = f"{below}, no layer changes the text".format("layer")
    assert shown(11, ("L9", "a"), ("L10", "a")) == [("L9.resid_post", unchanged)]
    heads = shown(11, ("L3.head.1", "a"), ("L4.head.2", "c"), ("L5-7.resid_post", "a"))
    assert heads == [("L4.head.2", both.format("patch", "patch"))]
    # In the repair direction the corrupted model is the one that is patched.
    (patch, _), _ = shown(5, ("L1", "b"), ("L2", "a"), ("L3", "a"), ("L4", "a"), target="corrupted")
    assert patch == "L2.resid_post"
