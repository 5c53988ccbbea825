"""Which prompts are shown where there is no room for all; what a page and a report in Markdown say of the others."""

import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.report import explorer, markdown, prompts
from crosspatch.report.explorer import Explorer
from crosspatch.report.markdown import write_markdown
from crosspatch.report.page import write_report
from crosspatch.report.print import figures
from crosspatch.report.print.figures import write_figures
from crosspatch.report.prompts import Selection, most_telling
from crosspatch.tables import GENERATIONS, SCORES

from .conftest import generation, score

PROMPTS = [*(f"r{i}" for i in range(5)), *(f"g{i}" for i in range(2))]
PROBLEMS = {p: Problem(p, "related" if p[0] == "r" else "general", "", f"Question {p}?", "1") for p in PROMPTS}
TEXTS = GENERATIONS.frame(generation("clean", f"text of {p}", prompt_id=p) for p in PROMPTS)
SITES = [(layer, step) for layer in (0, 6) for step in range(3)]
ALL_SCORES = SCORES.frame(score(*site, 0.5, prompt_id=p) for p in PROMPTS for site in SITES)
FRAMES = {"problems": PROBLEMS, "scores": ALL_SCORES, "generations": TEXTS}


def test_domains_take_turns_and_go_no_further_than_there_is_room(monkeypatch):
    found = Selection.of(PROMPTS, PROBLEMS, 4)
    assert found == Selection(("r0", "r1", "g0", "g1"), ("r2", "r3", "r4"))
    assert found.counted == "4 of 7 prompts, the first of each domain in turn"
    assert Selection.of(PROMPTS, PROBLEMS, 7) == Selection(tuple(PROMPTS))
    # A domain whose prompts are all there leaves its room to the others.
    assert Selection.of(PROMPTS, PROBLEMS, 6).shown == ("r0", "r1", "r2", "r3", "g0", "g1")
    sizes = {**dict.fromkeys(PROMPTS, 10), "r0": 100, "r2": 1}
    assert Selection.of(PROMPTS, PROBLEMS, 25, sizes).shown == ("r0", "g0")
    # What does not fit is not jumped over: which prompts are seen is no matter of their sizes.
    assert Selection.of(PROMPTS, PROBLEMS, 115, sizes).shown == ("r0", "g0")
    assert Selection.of(PROMPTS, PROBLEMS, 131, sizes).shown == ("r0", "r1", "r2", "g0", "g1")
    # Names are legible, and of very many it is said how many more there are.
    monkeypatch.setattr(prompts, "MOST_NAMES", 2)
    assert Selection(("a",), ("b", "\u202ec", "d", "e")).names == ["b", "⟨U+202E⟩c", "and 2 more"]
    assert Selection(("a",), ("b", "c")).names == ["b", "c"]


def test_a_page_and_a_report_in_markdown_hold_some_of_too_many_prompts_and_name_the_others(monkeypatch, tmp_path):
    whole = Explorer.of(PROBLEMS, ALL_SCORES, TEXTS, None)
    assert [prompt["id"] for prompt in whole.index["prompts"]] == PROMPTS
    # With room for all, none is omitted.
    page = write_report(tmp_path / "report.html", title="t", run={}, **FRAMES).read_text(encoding="utf-8")
    assert "Omitted prompts" not in page
    monkeypatch.setattr(explorer, "MOST_CELLS", 25)
    some = Explorer.of(PROBLEMS, ALL_SCORES, TEXTS, None)
    assert [prompt["id"] for prompt in some.index["prompts"]] == ["r0", "r1", "g0", "g1"]
    # What is there is what a page with room for all has there.
    kept = [PROMPTS.index(prompt) for prompt in some.selection.shown]
    assert list(some.prompts) == [whole.prompts[place] for place in kept]
    said = write_report(tmp_path / "report.html", title="t", run={}, **FRAMES).read_text(encoding="utf-8")
    assert "4 of 7 prompts, the first of each domain in turn" in said
    assert "Omitted prompts" in said
    assert "<bdi>r2</bdi>, <bdi>r3</bdi>, <bdi>r4</bdi>" in said
    assert "<dt>patched prompts in 2 domains</dt><dd>7</dd>" in said
    # Answers alone take room too.
    monkeypatch.setattr(explorer, "MOST_CELLS", int(TEXTS["token_count"][0]) * 4)
    assert Explorer.of(PROBLEMS, None, TEXTS, None).selection.left_out == ("r2", "r3", "r4")
    text = write_markdown(tmp_path / "report.md", title="t", **FRAMES).read_text(encoding="utf-8")
    assert all(f"text of {p}" in text for p in PROMPTS)
    assert "Left out" not in text
    monkeypatch.setattr(markdown, "MOST_PROMPTS", 4)
    text = write_markdown(tmp_path / "report.md", title="t", **FRAMES).read_text(encoding="utf-8")
    assert "has the texts of 4 of 7 prompts, the first of each domain in turn. Left out are 3: r2, r3, r4." in text
    assert [p for p in PROMPTS if f"text of {p}" in text] == ["r0", "r1", "g0", "g1"]


def test_the_related_prompt_with_the_most_cells_with_a_cts_opens():
    def first(**counts: int) -> int:
        cells = (score(0, step, 0.5 if step < n else None, prompt_id=p) for p, n in counts.items() for step in range(4))
        return most_telling(SCORES.frame(cells), PROBLEMS, list(counts))

    assert [first(r0=1, r1=3, g0=4), first(r0=2, r1=2), first(r0=0, g0=1, g1=2), first(g0=0, r0=0)] == [1, 0, 2, 0]
    assert [most_telling(None, PROBLEMS, PROMPTS), most_telling(ALL_SCORES, PROBLEMS, [])] == [0, 0]


@pytest.mark.usefixtures("unpainted")
def test_of_many_prompts_some_have_heatmaps_and_one_alone_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "MOST_HEATMAPS", 3)

    def heatmaps(folder: str, frame: pl.DataFrame) -> list[str]:
        paths = write_figures(tmp_path / folder, problems=PROBLEMS, scores=frame, training=None)
        return [path.stem for path in paths if path.name.startswith("heatmap") and path.name.endswith("-page.png")]

    # The numbers are those of the report, whichever are drawn.
    assert heatmaps("all", ALL_SCORES) == ["heatmap-001-r0-page", "heatmap-002-r1-page", "heatmap-006-g0-page"]
    assert heatmaps("one", ALL_SCORES.filter(prompt_id="r4")) == ["heatmap-001-r4-page"]
    # Each way of patching has heatmaps of the same prompts.
    both = pl.concat([ALL_SCORES, ALL_SCORES.with_columns(direction=pl.lit("repair"))])
    assert len(heatmaps("both", both)) == 4
