"""The report: complete, harmless and honest about what is not there."""

import json
import re
from pathlib import Path

import pytest

from crosspatch.report.findings import behaviour_findings, score_findings
from crosspatch.report.markdown import write_markdown
from crosspatch.report.page import write_report
from crosspatch.report.tables import token_tables, words_table
from crosspatch.statistics.answers import table2, table2_rows
from crosspatch.statistics.patch_mode import modes
from crosspatch.tables import BEHAVIOUR, GENERATIONS, SCORES, TOKENS, TRAINING, WORDS
from html_reader import HOSTILE, Reader

from .conftest import GRADED, HOSTILE_RUN, PROBLEMS, RUN, SCORED, score, unpacked


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def test_it_holds_everything_says_what_was_found_and_loads_nothing(full_page):
    full = read(full_page)
    assert len(full.source.encode()) < 2.5e6
    assert not re.search(r"https?://", full.source)
    assert not {"link", "img", "iframe", "object", "base"} & full.tags.keys()
    assert full.of("src") == []
    assert all(value.startswith("#") for value in full.of("href"))
    assert "default-src 'none'" in full.source
    assert 'plotlyServerURL: ""' in full.source
    assert "url(" not in re.search(r"<style>(.*?)</style>", full.source, re.DOTALL)[1]
    ids = full.of("id")
    assert len(set(ids)) == len(ids)
    for sentence in (
        "The models predict different tokens at 6 of 12 (50.0 %) patched steps.",
        "0/1 (1 unparsed)",
        "patched, L29.resid_post",
        "2.13.0",
        "patch.layers",
    ):
        assert sentence in full.text
    assert "was given, not trained here" not in full.text
    charts = {"training-curves", "accuracy", "depth-0", "depth-1"}
    parts = {"plotly", "explorer", "heads", "prompt-0", "prompt-1", *charts}
    assert set(re.findall(r'id="data-([^"]+)"', full.source)) == parts
    assert set(full.of("data-table")) == charts
    depth = unpacked(full.source, "depth-0")
    assert depth["table"]["columns"] == ["panel", "line", "layer", "value", "low", "high"]
    assert depth["figure"]["data"][0]["x"] == [0, 6, 29]


@pytest.mark.parametrize("empty", [False, True])
def test_sections_without_data_say_so(tmp_path, empty):
    frames = {table.name: table.frame() for table in (SCORES, GENERATIONS, BEHAVIOUR, TRAINING) if empty}
    page = read(write_report(tmp_path / "r.html", title="Nothing", run={}, problems={}, **frames))
    for sentence in (
        "No layer was patched in this run.",
        "No answers were graded in this run.",
        "The corrupted model was given, not trained here.",
        "No scores were measured in this run.",
        "No prompt was patched or answered in this run.",
        "This run has no record of how it was made.",
    ):
        assert sentence in page.text
    assert '<script type="text/plain" id="data-' not in page.source


def test_scores_without_a_defined_cell_and_of_several_layers(tmp_path):
    def page(*cells) -> Reader:
        scores = SCORES.frame(cells)
        return read(write_report(tmp_path / "r.html", title="t", run=RUN, problems=PROBLEMS, scores=scores))

    undefined = page(score(3, 0), score(3, 1))
    assert "No cell has a CTS, so nothing can be said" in undefined.text
    assert "No cell has a CTS, so there is no recovered fraction to draw." in undefined.text
    assert unpacked(undefined.source, "prompt-0")["texts"] == []
    several = page(score(3, 0, 0.5, layer=None, patch="L3.resid_post+L4.resid_post"))
    assert "no patches of single layers" in several.text


def test_a_failed_report_leaves_the_old_one(tmp_path):
    path = write_report(tmp_path / "r.html", title="first", run={}, problems=PROBLEMS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'p'"):
        write_report(path, title="second", run={}, problems={}, scores=SCORED)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    path = write_markdown(tmp_path / "out" / "report.md", title="first", problems=PROBLEMS, scores=SCORED)
    before = path.read_bytes()
    assert before.startswith(b"# first\n")
    with pytest.raises(ValueError, match="'p'"):
        write_markdown(path, title="second", problems={}, scores=SCORED)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_hostile_text_is_shown_and_never_acts(tmp_path, full_page):
    run = {HOSTILE[0]: {HOSTILE[1]: HOSTILE}, HOSTILE[1]: "\ud800"}
    page = read(write_report(tmp_path / "r.html", title=HOSTILE[0], run=run, **HOSTILE_RUN))
    assert page.tags.keys() <= read(full_page).tags.keys()
    assert HOSTILE[0] in page.text
    assert all(value.startswith("#") for value in page.of("href"))
    scripts = re.findall(r'<script(?! type="text/plain")[^>]*>(.*?)</script>', page.source, re.DOTALL)
    assert "alert(1)" not in "".join(scripts)
    packs = re.findall(r'<script type="text/plain" id="data-.*?">(.*?)</script>', page.source)
    assert packs
    assert all(re.fullmatch(r"[A-Za-z0-9+/]+=*", pack) for pack in packs)
    assert not re.search("[\x00\u202e]", page.source)
    assert "{{ 7 * 7 }}" in json.dumps(unpacked(page.source, "explorer"))


def test_findings_by_hand():
    (mode,) = modes(SCORED)
    assert score_findings(SCORED, mode, {"p": "related"}) == [
        "The models predict different tokens at 6 of 9 (66.7 %) patched steps.",
        "CTS is defined at 5 of them; at 1 the models differ by too little to divide by. "
        "3 of 5 (60.0 %) defined values lie outside [0, 1].",
        "Related mathematics: mean CTS is 0.12 at layer 0 (1 cell) and 0.83 at layer 29 (3 cells); "
        "the lowest layer where it is 0.5 or more is 29.",
    ]
    assert behaviour_findings(table2_rows(table2(GRADED))) == [
        "Related mathematics, correct answers: clean 1/1, corrupted 0/1 (1 unparsed). "
        "Operations: clean 1 right · 0 planted · 0 neither; corrupted 0 right · 1 planted · 0 neither."
    ]


def test_tables_of_classes_of_tokens_and_of_tokens_written_often_that_models_disagree_at() -> None:
    mode = {"component": "resid_post", "direction": "corrupt", "persistence": "transient", "schedule": "all"}

    def row(name: str, measure: str, estimate: float | None, **more: object) -> dict:
        ends = {} if estimate is None else {"low": estimate - 0.1, "high": estimate + 0.1}
        fixed = {"domain": "related", **mode, "late": False, "by": "class", "class": name, "contrast": "value"}
        found = {"measure": measure, "estimate": estimate, "effective": 7.5, "n_prompts": 9}
        return dict.fromkeys(TOKENS.columns) | fixed | found | ends | more

    rows = [
        row("operation", "share_of_disagreements", 0.6),
        row("operation", "recovered_fraction", 0.3),
        row("operation", "recovered_fraction", -0.2, contrast="excess", p_value=0.99),
        row("operation", "recovered_fraction", 0.9, layer=3),
        row("operation", "recovered_fraction", 0.95, late=True),
        row("digit", "recovered_fraction", None),
    ]
    (table,) = token_tables(TOKENS.frame(rows))
    assert table.name == "Related mathematics, by class of token (resid_post corrupt)"
    assert [row[0] for row in table.rows] == ["operation", "digit"]
    n = " (n_eff 7.5)"
    excess = f"−0.20 [−0.30, −0.10]{n}"
    assert list(table.rows[0][1:]) == [f"0.60 [0.50, 0.70]{n}", "", "", "", f"0.30 [0.20, 0.40]{n}", excess, "0.99"]
    assert table.rows[1][5] == "nothing"
    assert list(token_tables(TOKENS.frame())) == []
    fixed = {"domain": "related", **mode, "prompts": 2, "mean_cts": 1.0, "published_cts": 0.5}
    counts = {" add": (9, 4), "rare": (2, 2), " is": (9, 0)}
    rows = [{**fixed, "token": token, "positions": n, "disagreements": k} for token, (n, k) in counts.items()]
    words = WORDS.frame({**row, "disagreement_rate": row["disagreements"] / row["positions"]} for row in rows)
    assert [row[1] for row in words_table(words).rows] == ["␣add"]
