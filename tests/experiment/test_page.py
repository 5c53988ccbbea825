"""The page of a run in progress: written again when there is more, marked as unfinished, and at last complete."""

from __future__ import annotations

import json

import pytest

from crosspatch.experiment.page import watch
from crosspatch.tables import SCORES
from score_cells import cell

from .runs import made_run

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def running(tmp_path):
    run = made_run(tmp_path / "run", prompts=2)
    stage(run, "patch", "running")
    return run


def stage(run, name, state, **more):
    record = run.record()
    record["stages"][name] = {"state": state, "seconds": 1.0, "at": "2026-11-01T12:00:00+00:00", **more}
    run.record_file.write_text(json.dumps(record))


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
    assert pages[0] == pages[1]
    assert pages[2] != pages[1]
    for page in pages[:3]:
        assert "location.reload(), 7000)" in page
        assert "This run is not finished." in page
        assert "patch is running (since 2026-11-01T12:00:00+00:00)" in page
    last = running.report.read_text()
    assert "location.reload" not in last
    assert "not finished" not in last
    assert "complete as far as the run is" in log.messages[-1]
    # Figures take longer than the page, so they are made once, at the end.
    assert list(running.figures.glob("*.png"))


def test_a_pause_between_stages_is_no_end(running):
    stage(running, "patch", "done")
    states = ["running", "running", "done", "done", "done"]
    watch(running, 1, wait=lambda _: stage(running, "controls", states.pop(0)))
    assert len(states) < 2


def test_the_command_watches_a_run_and_shows_why_a_stage_failed(cli, running, monkeypatch):
    stage(running, "patch", "failed", error="ValueError: <b>why</b>")
    monkeypatch.setattr("crosspatch.experiment.page.time.sleep", lambda _: None)
    code, out, _ = cli("report", running.root, "--watch", "--every", 1)
    assert code == 0
    assert "stop with Ctrl-C" in out
    page = running.report.read_text()
    assert "patch is failed (since 2026-11-01T12:00:00+00:00): ValueError: &lt;b&gt;why&lt;/b&gt;" in page
    assert cli("report", running.root, "--watch", "--every", 0)[0] == 2
