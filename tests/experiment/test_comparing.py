"""Several runs in one page: it shows what differs, and leaves each run's own page as it was."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from crosspatch.experiment.comparing import compared, write_comparison
from crosspatch.report.comparison import compared_claims, compared_panels
from crosspatch.statistics.patch_mode import every_mode
from crosspatch.tables import SCORES

from .runs import made_run

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def two(tmp_path):
    return made_run(tmp_path / "first"), made_run(tmp_path / "second", seed=1, full=0.5)


def test_the_command_writes_one_page(cli, two, tmp_path):
    cli("report", two[0].root)
    before = two[0].report.read_bytes()
    code, out, err = cli("report", two[0].root, two[1].root, "--out", tmp_path / "both")
    assert (code, err) == (0, "")
    assert f"comparison: {tmp_path / 'both' / 'report.html'}" in out
    page = (tmp_path / "both" / "report.html").read_text()
    assert "first and second" in page
    # Only a report that is there is linked.
    assert 'href="../first/report.html"' in page
    assert "../second/report.html" not in page
    assert two[0].report.read_bytes() == before
    differences = page.split('id="differences"')[1].split("</section>")[0]
    assert "seeds.experiment" in differences
    assert "settings.seed" in differences
    assert "settings.name" not in differences


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
        ("nowhere.yaml --watch", "expected the run directory"),
        ("first second --out first/run.json", "expected a folder"),
    ],
)
def test_wrong_use_is_one_line(cli, two, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = cli("report", *arguments.split())
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
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


def test_models_of_several_depths_are_compared_over_their_depth(tmp_path):
    runs = [compared(made_run(tmp_path / str(n), n_layers=n), str(n), tmp_path) for n in (3, 5)]
    (panel,) = compared_panels(runs, every_mode(runs[0].depth)[0])
    assert [line.x for line in panel.lines] == [(0, 0.5, 1), (0, 0.25, 0.5, 0.75, 1)]
    assert panel.axis.startswith("depth")
