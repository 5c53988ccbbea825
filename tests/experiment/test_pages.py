"""The page of a run in progress, and that of several runs, which leaves each run's own page as it was."""

import json
import os
from dataclasses import replace

import pytest

from crosspatch.experiment.comparing import compared, write_comparison
from crosspatch.experiment.page import watch
from crosspatch.report.comparison import compared_claims, compared_panels
from crosspatch.statistics.patch_mode import every_mode
from crosspatch.tables import SCORES
from score_cells import cell

from .runs import made_run

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def two(tmp_path):
    return made_run(tmp_path / "first"), made_run(tmp_path / "second", seed=1, full=0.5)


def test_the_command_writes_one_page(cli, two, tmp_path):
    cli("report", two[0].root)
    before = two[0].report.read_bytes()
    ended = cli("report", two[0].root, two[1].root, "--out", tmp_path / "both", code=0)
    assert ended.err == ""
    assert f"comparison: {tmp_path / 'both' / 'report.html'}" in ended.out
    page = (tmp_path / "both" / "report.html").read_text()
    assert "first and second" in page
    # Only a report that is there is linked.
    assert 'href="../first/report.html"' in page
    assert "../second/report.html" not in page
    assert two[0].report.read_bytes() == before
    differences = page.split('id="differences"')[1].split("</section>")[0]
    shown = {name for name in ("seeds.experiment", "settings.seed", "settings.name") if name in differences}
    assert shown == {"seeds.experiment", "settings.seed"}


def test_runs_may_be_alike_and_statistics_are_made_where_results_are_newer(tmp_path):
    runs = [made_run(tmp_path / folder / "run") for folder in ("a", "b") if not (tmp_path / folder).mkdir()]
    page = write_comparison(runs, tmp_path / "out").read_text()
    # Runs of one name are told apart by their folders.
    assert "a/run and b/run" in page
    assert "Settings, versions, models and data are the same in all runs." in page
    made = runs[0].root / "statistics" / "depth.parquet"
    first = made.stat().st_mtime_ns
    write_comparison(runs, tmp_path / "out")
    assert made.stat().st_mtime_ns == first
    assert runs[0].statistics_are_new
    os.utime(runs[0].path(SCORES, 0), ns=(first + 10**9, first + 10**9))
    assert not runs[0].statistics_are_new
    assert runs[1].statistics_are_new


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("first first", "is named twice"),
        ("first second --out second", "whose own report.html would be lost"),
        ("first nowhere", "is not a run directory"),
        ("first second --watch", "with a single run"),
        ("first second --set seed=1", "with a single run"),
        ("nowhere.yaml --watch", "expected a run directory"),
        ("first second --out first/run.json", "expected a folder"),
    ],
)
def test_wrong_use_is_one_line(cli, two, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = cli("report", *arguments.split())
    assert (code, err.count("\n"), words in err) == (2, 1, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_panels_and_claims_hold_each_run(two, tmp_path):
    runs = [compared(run, label, tmp_path) for run, label in zip(two, "ab", strict=True)]
    (mode,) = every_mode(runs[0].depth)
    (panel,) = compared_panels(runs, mode)
    assert panel.axis == "layer"
    assert {line.name: line.values for line in panel.lines} == {
        "a": pytest.approx((0, 0.25, 0.5, 0.75, 1)),
        "b": pytest.approx((0, 0.125, 0.25, 0.375, 0.5)),
    }
    assert all(line.x == (0, 1, 2, 3, 4) for line in panel.lines)
    (rates,) = compared_panels(runs, mode, "disagreement_rate")
    assert rates.lines[0].values == pytest.approx((2 / 3,) * 5)
    claims = compared_claims(runs)
    assert claims
    assert all(len(row.found) == 2 for row in claims)
    without = replace(runs[1], claims=runs[1].claims.head(0))
    assert all(row.found[1] == (None, "") for row in compared_claims([runs[0], without]))
    # Models of several depths are compared over their depth.
    runs = [compared(made_run(tmp_path / str(n), n_layers=n), str(n), tmp_path) for n in (3, 5)]
    (panel,) = compared_panels(runs, every_mode(runs[0].depth)[0])
    assert [line.x for line in panel.lines] == [(0, 0.5, 1), (0, 0.25, 0.5, 0.75, 1)]
    assert panel.axis.startswith("depth")


def stage(run, name, state, **more):
    record = run.record()
    record["stages"][name] = {"state": state, "seconds": 1.0, "at": "2026-11-01T12:00:00+00:00", **more}
    run.record_file.write_text(json.dumps(record))
    return run


@pytest.fixture
def running(tmp_path):
    return stage(made_run(tmp_path / "run", prompts=2), "patch", "running")


def test_it_is_written_when_there_is_more_and_ends_with_the_run(running, log):
    pages = []

    def wait(seconds):
        assert seconds == 7
        pages.append(running.report.read_text())
        # The first wait changes nothing, the second brings scores, the third ends the stage.
        if len(pages) == 2:
            running.write(SCORES, SCORES.frame([cell("related-1", 0, 5, (-1.0, 1.0, 0.0))]), 1)
        if len(pages) == 3:
            stage(running, "patch", "done")

    watch(running, 7, wait=wait)
    assert pages[0] == pages[1] != pages[2]
    for page in pages[:3]:
        for words in ("location.reload(), 7000)", "This run is not finished.", "patch is running (since 2026-11-01T12"):
            assert words in page
    last = running.report.read_text()
    assert not any(words in last for words in ("location.reload", "not finished"))
    assert "the report shows all results so far" in log.messages[-1]
    # Figures take longer than the page, so they are made once, at the end.
    assert list(running.figures.glob("*.png"))
    # A pause between stages is no end.
    states = ["running", "running", "done", "done", "done"]
    watch(running, 1, wait=lambda _: stage(running, "controls", states.pop(0)))
    assert len(states) < 2


def test_the_command_watches_a_run_and_shows_why_a_stage_failed(cli, running, monkeypatch):
    stage(running, "patch", "failed", error="ValueError: <b>why</b>")
    monkeypatch.setattr("crosspatch.experiment.page.time.sleep", lambda _: None)
    assert "stop with Ctrl-C" in cli("report", running.root, "--watch", "--every", 1, code=0).out
    page = running.report.read_text()
    assert "patch is failed (since 2026-11-01T12:00:00+00:00): ValueError: &lt;b&gt;why&lt;/b&gt;" in page
    assert cli("report", running.root, "--watch", "--every", 0)[0] == 2
