"""The report: complete, harmless and honest about what is not there."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.report.answers import prompt_answers, unpatched
from crosspatch.report.findings import behaviour_findings, score_findings
from crosspatch.report.page import write_report
from crosspatch.statistics.answers import table2, table2_rows
from crosspatch.statistics.patch_mode import modes
from crosspatch.tables import BEHAVIOUR, GENERATIONS, SCORES, TRAINING

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

    @property
    def packed(self) -> dict[str, str]:
        """What travels packed, by its name."""
        return {
            str(attrs["id"]).removeprefix("data-"): body
            for attrs, body in self.scripts
            if attrs.get("type") == "text/plain"
        }

    def unpacked(self, name: str) -> Any:
        return json.loads(zlib.decompress(base64.b64decode(self.packed[name])))

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.text += data


@pytest.fixture(scope="module")
def full(
    tmp_path_factory: pytest.TempPathFactory,
    scores: pl.DataFrame,
    generations: pl.DataFrame,
    behaviour: pl.DataFrame,
    training: pl.DataFrame,
    problems: dict[str, Problem],
) -> Page:
    path = tmp_path_factory.mktemp("page") / "out" / "report.html"
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
    assert "plotly.js v" in zlib.decompress(base64.b64decode(full.packed["plotly"]))[:400].decode()
    assert len(full.source.encode()) < 2.5e6
    assert not re.search(r"https?://", full.source)
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


def test_each_chart_has_its_data_and_its_table(full: Page) -> None:
    charts = {"training-curves", "accuracy", "depth-0"}
    assert set(full.packed) == {"plotly", "explorer", "prompt-0", *charts}
    ids = [value for name, value in full.attributes if name == "id"]
    assert set(ids) >= charts
    assert len(set(ids)) == len(ids)
    assert {value for name, value in full.attributes if name == "data-table"} == charts
    table = full.unpacked("depth-0")["table"]
    assert table["columns"] == ["panel", "line", "layer", "value", "low", "high"]
    assert ["Related mathematics: 1 prompt with a CTS", "mean CTS", 0, 0.125, None, None] in table["rows"]
    assert full.unpacked("depth-0")["figure"]["data"][0]["x"] == [0, 6, 29]


def test_it_says_what_was_run_and_found(full: Page) -> None:
    for sentence in (
        "The models predict different tokens at 6 of 9 (66.7 %) patched steps.",
        "0/1 (1 unparsed)",
        "patched, L29.resid_post",
        "2.13.0",
        "patch.layers",
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
        "This run has no record of how it was made.",
    ):
        assert sentence in page.text
    assert not page.packed


def test_scores_without_a_defined_cell(tmp_path: Path, problems: dict[str, Problem]) -> None:
    scores = SCORES.frame([score(3, 0), score(3, 1)])
    page = Page(write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores))
    assert "No cell has a CTS, so nothing can be said" in page.text
    assert "No cell has a CTS, so there is no recovered fraction to draw." in page.text
    assert page.unpacked("prompt-0")["texts"] == []


def test_patches_of_several_places_are_in_the_explorer_alone(tmp_path: Path, problems: dict[str, Problem]) -> None:
    scores = SCORES.frame([score(3, 0, 0.5, layer=None, patch="L3.resid_post+L4.resid_post")])
    page = Page(write_report(tmp_path / "r.html", title="t", run=RUN, problems=problems, scores=scores))
    assert "no patches of single layers" in page.text
    (picture,) = page.unpacked("prompt-0")["pictures"]
    assert [row["name"] for row in picture["rows"]] == ["L3.resid_post+L4.resid_post"]


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
    for body in page.packed.values():
        assert re.fullmatch(r"[A-Za-z0-9+/]+=*", body)
    assert "\x00" not in page.source
    assert "\u202e" not in page.source
    assert "{{ 7 * 7 }}" in json.dumps(page.unpacked("explorer"))


def test_a_failed_report_leaves_the_old_one(tmp_path: Path, scores: pl.DataFrame, problems: dict[str, Problem]) -> None:
    path = write_report(tmp_path / "r.html", title="first", run={}, problems=problems)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'p'"):
        write_report(path, title="second", run={}, problems={}, scores=scores)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_findings_by_hand(scores: pl.DataFrame, behaviour: pl.DataFrame) -> None:
    (mode,) = modes(scores)
    assert score_findings(scores, mode, {"p": "related"}) == [
        "The models predict different tokens at 6 of 9 (66.7 %) patched steps.",
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
    answers = prompt_answers(generations, behaviour)
    corrupted = unpatched(answers, "corrupted")
    assert corrupted is not None
    assert (corrupted.shared, corrupted.own) == ("Divide ", "it. x = 4")
    assert corrupted.verdict == "unparsed"
    _, _, early, late = answers
    assert (early.patch, early.likeness, early.own) == ("L6.resid_post", "the clean text", "")
    assert (late.shared, late.own, late.health) == ("Divide by 8. x = ", "4", ("repeats itself",))
    assert early.verdict is None
