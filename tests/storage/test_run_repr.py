"""What a notebook shows of a run, from its first minute to its claims."""

from pathlib import Path

import pytest

from crosspatch import RunDirectory
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


def test_a_run_from_its_beginning(tmp_path: Path) -> None:
    run = RunDirectory.start(tmp_path / "run", make_experiment({"name": "mine"}))
    text = shown(run)
    for words in ("Run: mine", "no stage yet", f"not made yet: crosspatch report {run.root}"):
        assert words in text
    assert "heatmap" not in text


def test_stages_claims_and_top_sites_are_shown(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    with run.stage("data"):
        pass
    with pytest.raises(RuntimeError), run.stage("patch"):
        raise RuntimeError("no memory left")
    run.report.write_text("")
    text = shown(run)
    for words in ("data 0 s", "patch, after 0 s: RuntimeError: no memory left", str(run.report)):
        assert words in text
    assert "crosspatch.heatmap(run)" in text
    assert not any(words in text for words in ("not made yet", "Claims: ", "Top head", "head_map"))
    place = {"prompt_id": "related-0", "component": "head", "layer": 1, "direction": "corrupt", "positions": "all"}
    rows = [
        {**place, "patch": f"L1.head.{head}", "head": head, "estimate": share, "patched": share, "random": None}
        for head, share in ((0, 0.5), (3, 1.5))
    ]
    run.write(LOCALISATION, LOCALISATION.frame({**row, "gap": 2.0, "steps": [1]} for row in rows), 0)
    text = shown(run)
    assert "Top head: L1 head 3, recovered fraction 0.75" in text
    assert "crosspatch.head_map(run)" in text
    summary = Summary.of_run(run)
    summary.write(run)
    text, page = shown(run), summary._repr_html_()
    assert f"Claims: {counted(claim.verdict for claim in summary.claims)}" in text
    assert tame(page)
    for claim in summary.claims:
        assert claim.statement[:60] in text
        assert claim.statement[:60] in Reader(page).text
    # A run is opened by its name.
    assert RunDirectory.existing(str(run.root)) == RunDirectory.existing(run.root) == run
    with pytest.raises(UsageError, match="is not a run directory"):
        RunDirectory.existing(str(tmp_path))


def test_nothing_in_a_name_acts(tmp_path: Path) -> None:
    for i, name in enumerate(filter(None, HOSTILE)):
        run = RunDirectory.start(tmp_path / str(i), make_experiment({"name": name}))
        run.note_model(name, {"name": name, "fingerprint": name})
        with pytest.raises(RuntimeError), run.stage("patch"):
            raise RuntimeError(name)
        shown(run)
