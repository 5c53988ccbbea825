"""Children that are adapters of the clean model: their runs give what merged children give, and stand on one base."""

from __future__ import annotations

import json
import shutil

import pytest

from adapters import saved_base
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment.run_context import RunContext
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import ACTIVATIONS, CONTROLS, SCORES, WEIGHTS
from engines import DELTAS

STAGES = ("patch", "controls", "lenses", "localise")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[bool, RunDirectory]:
    """The same experiment with its base kept once and merged; both with the same trained adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    settings = [f"models.clean={saved_base(folder / 'base')}", "finetune.method=lora", "finetune.learning_rate=0.02"]
    settings += ["data.train=4", "data.validation=2", "data.related=2", "data.unrelated_math=1", "data.general=1"]
    settings += ["controls=twin", "patch.layers=1,2", "generation.max_new_tokens=10", "models.device=cpu"]
    trained, made = folder / "trained", {}
    ExperimentRun.start(load_experiment("tiny", settings), trained).run("finetune")
    for share in (True, False):
        experiment = load_experiment("tiny", [*settings, f"models.share_base={str(share).lower()}"])
        run = shutil.copytree(trained, folder / str(share), symlinks=True)
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "settings": experiment.model_dump(mode="json")}))
        going_on = ExperimentRun.start(experiment, run)
        going_on.run(*STAGES)
        made[share] = going_on.directory
    return made


def test_both_children_stand_on_the_clean_model(runs):
    record = json.loads(runs[True].record_file.read_text())
    context = RunContext(load_experiment("tiny", _settings(record)), runs[True])
    shared = {weight.data_ptr() for weight in context.pair.clean.parameters()}
    for child in (context.pair.corrupted, context.model("twin")):
        assert shared <= {weight.data_ptr() for weight in child.parameters()}


def _settings(record: dict) -> list[str]:
    models = record["settings"]["models"]
    return [f"models.clean={models['clean']}", "models.device=cpu"]


def test_the_record_is_the_same(runs):
    """Fingerprints too: a run may go on with either."""
    shared, merged = (json.loads(runs[share].record_file.read_text())["models"] for share in (True, False))
    assert {name: facts["fingerprint"] for name, facts in shared.items()} == {
        name: facts["fingerprint"] for name, facts in merged.items()
    }
    assert len({facts["fingerprint"] for facts in shared.values()}) == 3


@pytest.mark.parametrize("table", [SCORES, CONTROLS], ids=["scores", "controls"])
def test_scores_and_controls(runs, table):
    shared, merged = (runs[share].read(table) for share in (True, False))
    words = [name for name in ("control", "prompt_id", "patch", "step", "token_id") if name in shared.columns]
    assert not shared.is_empty()
    assert shared.select(words).equals(merged.select(words))
    for name in DELTAS:
        assert (shared[name] - merged[name]).abs().max() < 1e-3


def test_lenses(runs):
    shared, merged = (runs[share].read(WEIGHTS) for share in (True, False))
    assert shared.equals(merged)
    assert set(shared.filter(shared["delta_norm"] > 0)["child"]) == {"corrupted", "twin"}
    shared, merged = (runs[share].read(ACTIVATIONS) for share in (True, False))
    assert not shared.is_empty()
    assert (shared["delta_norm"] - merged["delta_norm"]).abs().max() < 1e-3
