"""The report: complete, harmless and honest about what is not there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.frames import BEHAVIOUR, GENERATIONS, SCORES, TRAINING
from crosspatch.report.answers import Answers
from crosspatch.report.findings import behaviour_findings, score_findings
from crosspatch.report.page import write_report
from crosspatch.results.table2 import table2, table2_rows
from crosspatch.results.variant import variants

from .conftest import HOSTILE, score

RUN = {"name": "demo", "settings": {"patch": {"layers": [0, 6]}}, "versions": {"torch": "2.13.0"}}


class Page(HTMLParser):
    """What a browser would find: elements, addresses, script bodies and the visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._script: dict[str, str | None] | None = None
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._script = dict(attrs) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.text += data


@pytest.fixture
def full(
    tmp_path: Path,
    scores: pl.DataFrame,
    generations: pl.DataFrame,
    behaviour: pl.DataFrame,
    training: pl.DataFrame,
    problems: dict[str, Problem],
) -> Page:
    path = tmp_path / "out" / "report.html"
    write_report(
        path,
        title="Demo",
        run=RUN,
        problems=problems,
        scores=scores,
        generations=generations,
        behaviour=behaviour,
        training=training,
    )
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return Page(path)


def test_it_holds_everything_and_loads_nothing(full: Page) -> None:
    assert full.source.count("* plotly.js v") == 1
    assert len(full.source.encode()) < 6e6
    assert not {"link", "img", "iframe", "object", "base"} & set(full.tags)
    for name, value in full.attributes:
        assert name != "src"
        if name == "href":
            assert str(value).startswith("#")
        else:
            assert "http://" not in str(value)
            assert "https://" not in str(value)
    assert "default-src 'none'" in full.source
    assert 'plotlyServerURL: ""' in full.source
    assert "url(" not in re.search(r"<style>(.*?)</style>", full.source, re.S)[1]  # type: ignore[index]


def test_each_chart_has_its_data(full: Page) -> None:
    data = {attrs["id"]: json.loads(body) for attrs, body in full.scripts if attrs.get("type") == "application/json"}
    assert set(data) == {"data-training", "data-accuracy", "data-depth-0", "data-heatmap-0-0"}
    assert {f"data-{value}" for name, value in full.attributes if name == "id"} >= set(data)
    assert data["data-heatmap-0-0"]["data"][1]["z"][2] == [1.0, 4.0, -2.5, None]


def test_it_says_what_was_run_and_found(full: Page) -> None:
    for sentence in (
        "The models want different tokens at 6 of 9 (66.7 %) patched steps.",
        "2 CTS values lie beyond the colour range",
        "0/1 (1 unparsed)",
        "patched, L29.resid_post",
        "2.13.0",
        "patch.layers",
        "L6.resid_post: the clean text",
        "L29.resid_post: a text of its own",
    ):
        assert sentence in full.text
    assert "was given, not trained here" not in full.text


@pytest.mark.parametrize("empty", [False, True])
def test_sections_without_data_say_so(tmp_path: Path, empty: bool) -> None:
    frames: dict[str, Any] = {}
    if empty:
        schemas = {"scores": SCORES, "generations": GENERATIONS, "behaviour": BEHAVIOUR, "training": TRAINING}
        frames = {name: schema.frame() for name, schema in schemas.items()}
    page = Page(write_report(tmp_path / "r.html", title="Nothing", run={}, problems={}, **frames))
    for sentence in (
        "No layer was patched in this run.",
        "No answers were graded in this run.",
        "The corrupted model was given, not trained here.",
        "No scores were measured in this run.",
        "No prompt was patched or answered in this run.",
        "Nothing is recorded about how this run was made.",
    ):
        assert sentence in page.text
    assert "plotly.js" not in page.source


def test_scores_without_a_defined_cell(tmp_path: Path, problems: dict[str, Problem]) -> None:
    scores = SCORES.frame([score(3, 0), score(3, 1)])
    page = Page(write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores))
    assert "No cell has a CTS, so nothing can be said" in page.text
    assert "No cell has a CTS, so there is no transfer to draw." in page.text
    assert "No texts were kept for this prompt." in page.text


def test_scores_of_windows_are_counted_not_drawn(tmp_path: Path, problems: dict[str, Problem]) -> None:
    scores = SCORES.frame([score(3, 0, 0.5, layer=None, patch="L3-5.resid_post")])
    page = Page(write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores))
    assert "no patches of single layers" in page.text
    assert "1 scores of patches that are not one whole layer" in page.text


def test_hostile_text_is_shown_and_never_acts(
    tmp_path: Path,
    hostile_scores: pl.DataFrame,
    hostile_generations: pl.DataFrame,
    hostile_problems: dict[str, Problem],
    full: Page,
) -> None:
    page = Page(
        write_report(
            tmp_path / "hostile.html",
            title=HOSTILE[0],
            run={HOSTILE[0]: {HOSTILE[1]: HOSTILE}, HOSTILE[1]: "\ud800"},
            problems=hostile_problems,
            scores=hostile_scores,
            generations=hostile_generations,
        )
    )
    # No element that the template does not have; `b` and `a` are ours as well, so they are counted elsewhere.
    assert set(page.tags) <= set(full.tags)
    assert HOSTILE[0] in page.text
    assert "alert(1)" not in "".join(body for attrs, body in page.scripts if attrs.get("type") is None)
    assert all(str(value).startswith("#") for name, value in page.attributes if name == "href")
    for body in (body for attrs, body in page.scripts if attrs.get("type") == "application/json"):
        json.loads(body)
        assert not re.search("[<>&\u2028\u2029\x00\u202e]", body)
    assert "\x00" not in page.source
    assert "\u202e" not in page.source
    assert "{{ 7 * 7 }}" in page.text


def test_a_failed_report_leaves_the_old_one(tmp_path: Path, scores: pl.DataFrame, problems: dict[str, Problem]) -> None:
    path = write_report(tmp_path / "r.html", title="first", run={}, problems=problems)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'p'"):
        write_report(path, title="second", run={}, problems={}, scores=scores)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_findings_by_hand(scores: pl.DataFrame, behaviour: pl.DataFrame) -> None:
    (variant,) = variants(scores)
    assert score_findings(scores, variant, {"p": "related"}) == [
        "The models want different tokens at 6 of 9 (66.7 %) patched steps.",
        "CTS is defined at 5 of them; at 1 the models differ by too little to divide by. "
        "3 of 5 (60.0 %) defined values lie outside [0, 1].",
        "Related mathematics: mean CTS is 0.12 at layer 0 (1 cell) and 0.83 at layer 29 (3 cells); "
        "the lowest layer where it is 0.5 or more is 29.",
    ]
    assert behaviour_findings(table2_rows(table2(behaviour))) == [
        "Related mathematics, correct answers: clean 1/1, corrupted 0/1 (1 unparsed). "
        "Operations: clean 1 right · 0 planted · 0 neither; corrupted 0 right · 1 planted · 0 neither."
    ]


def test_answers_part_from_the_clean_one_at_a_word(generations: pl.DataFrame, behaviour: pl.DataFrame) -> None:
    answers = Answers.of("p", generations, behaviour)
    assert answers.corrupted is not None
    assert (answers.corrupted.shared, answers.corrupted.own) == ("Divide ", "it. x = 4")
    assert answers.corrupted.verdict == "unparsed"
    early, late = answers.patched
    assert (early.patch, early.likeness, early.own) == ("L6.resid_post", "the clean text", "")
    assert (late.shared, late.own, late.health) == ("Divide by 8. x = ", "4", ("repeats itself",))
    assert early.verdict is None
