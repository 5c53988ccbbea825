"""What a notebook shows of a run, from its first minute to its claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosspatch import RunDirectory
from crosspatch.characters import half_surrogate
from crosspatch.errors import UsageError
from crosspatch.settings_io import make_experiment
from crosspatch.statistics.claim import counted
from crosspatch.storage.summary import Summary
from crosspatch.tables import LOCALISATION
from experiment.runs import made_run
from html_reader import HOSTILE, Reader, tame


def shown(run: RunDirectory) -> str:
    page = run._repr_html_()
    assert tame(page)
    return Reader(page).text


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    run = RunDirectory.start(tmp_path / "run", make_experiment({"name": "mine"}))
    text = shown(run)
    assert "Run: mine" in text
    assert "no stage yet" in text
    assert f"not made yet: crosspatch report {run.root}" in text
    assert "heatmap" not in text


def test_stages_say_how_far_they_came(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", prompts=1)
    with run.stage("data"):
        pass
    with pytest.raises(RuntimeError), run.stage("patch"):
        raise RuntimeError("no memory left")
    run.report.write_text("")
    text = shown(run)
    assert "data 0 s" in text
    assert "patch, after 0 s: RuntimeError: no memory left" in text
    assert str(run.report) in text
    assert "not made yet" not in text
    assert "crosspatch.heatmap(run)" in text


def test_claims_are_counted_and_kept_under_a_fold(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    assert "Claims: " not in shown(run)
    summary = Summary.of_run(run)
    summary.write(run)
    assert f"Claims: {counted(claim.verdict for claim in summary.claims)}" in shown(run)
    assert all(claim.statement[:60] in shown(run) for claim in summary.claims)
    page = summary._repr_html_()
    assert tame(page)
    assert all(claim.statement[:60] in Reader(page).text for claim in summary.claims)


def test_what_was_localised_is_named(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", prompts=1)

    def place(head: int, moved: float) -> dict[str, object]:
        return {
            "prompt_id": "related-0",
            "patch": f"L1.head.{head}",
            "component": "head",
            "layer": 1,
            "head": head,
            "direction": "corrupt",
            "positions": "all",
            "estimate": moved,
            "patched": moved,
            "random": None,
            "gap": 2.0,
            "steps": [1],
        }

    run.write(LOCALISATION, LOCALISATION.frame([place(0, 0.5), place(3, 1.5)]), 0)
    text = shown(run)
    assert "Top head: L1 head 3, recovered fraction 0.75" in text
    assert "crosspatch.head_map(run)" in text


def test_nothing_in_a_name_acts(tmp_path: Path) -> None:
    for i, name in enumerate(filter(lambda name: half_surrogate(name) is None, HOSTILE)):
        run = RunDirectory.start(tmp_path / str(i), make_experiment({"name": name}))
        run.note_model(name, {"name": name, "fingerprint": name})
        with pytest.raises(RuntimeError), run.stage("patch"):
            raise RuntimeError(name)
        shown(run)


def test_a_run_is_opened_by_its_name(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", prompts=1)
    assert RunDirectory.existing(str(run.root)) == RunDirectory.existing(run.root) == run
    assert run.domains() == {"related-0": "related"}
    with pytest.raises(UsageError, match="no run directory"):
        RunDirectory.existing(str(tmp_path))
