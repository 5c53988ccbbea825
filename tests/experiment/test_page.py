"""The page of a run that goes on: made anew when there is more, said to be unfinished, and at last complete."""

from __future__ import annotations

import json

import pytest

from crosspatch.experiment.page import watch
from crosspatch.tables import SCORES

from .runs import cell, made_run

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def running(tmp_path):
    run = made_run(tmp_path / "run", prompts=2)
    stage(run, "patch", "running")
    return run


def stage(run, name, state):
    record = run.record()
    record["stages"][name] = {"state": state, "seconds": 1.0, "at": "2026-11-01T12:00:00+00:00"}
    run.record_file.write_text(json.dumps(record))


def test_it_writes_when_there_is_more_and_ends_with_the_run(running, log):
    pages, looks = [], []

    def wait(seconds):
        looks.append(seconds)
        pages.append(running.report.read_text())
        # The first look changes nothing, the second brings scores, the third ends the stage.
        if len(looks) == 2:
            running.write(SCORES, SCORES.frame([cell(1, 0, 5, 0.5)]), 1)
        if len(looks) == 3:
            stage(running, "patch", "done")

    watch(running, 7, wait=wait)
    assert set(looks) == {7}
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
    # Pictures cost more than the page, so they are made once, at the end.
    assert list(running.figures.glob("*.png"))


def test_a_pause_between_stages_is_no_end(running):
    stage(running, "patch", "done")
    looks = []

    def wait(_):
        looks.append(1)
        if len(looks) == 1:
            stage(running, "controls", "running")
        if len(looks) == 3:
            stage(running, "controls", "done")

    watch(running, 1, wait=wait)
    assert len(looks) > 3


def test_the_command_watches_a_run_that_is_done(cli, tmp_path, monkeypatch):
    run = made_run(tmp_path / "run", prompts=1)
    monkeypatch.setattr("crosspatch.experiment.page.time.sleep", lambda _: None)
    code, out, _ = cli("report", run.root, "--watch", "--every", 1)
    assert code == 0
    assert "stop with Ctrl-C" in out
    assert run.report.is_file()
    assert cli("report", run.root, "--watch", "--every", 0)[0] == 2


def test_a_failed_stage_is_said_with_its_reason(running, cli):
    record = running.record()
    record["stages"]["patch"] = {"state": "failed", "seconds": 1.0, "at": "now", "error": "ValueError: <b>why</b>"}
    running.record_file.write_text(json.dumps(record))
    assert cli("report", running.root)[0] == 0
    page = running.report.read_text()
    assert "patch is failed (since now): ValueError: &lt;b&gt;why&lt;/b&gt;" in page
