"""Children that are adapters of the clean model: their runs give what merged children give."""

from __future__ import annotations

import json
import shutil

from adapters import saved_base
from crosspatch import load_experiment, run_experiment
from crosspatch.experiment import ExperimentRun
from crosspatch.tables import ACTIVATIONS, CONTROLS, SCORES, WEIGHTS
from engines import DELTAS


def test_runs_of_adapters_give_what_merged_children_give(tmp_path):
    settings = [f"models.clean={saved_base(tmp_path / 'base')}", "finetune.method=lora", "finetune.learning_rate=0.02"]
    settings += ["data.train=4", "data.validation=2", "data.related=2", "data.unrelated_math=1", "data.general=1"]
    settings += ["controls=twin", "patch.layers=1,2", "generation.max_new_tokens=10", "models.device=cpu"]
    run_experiment(load_experiment("tiny", settings), tmp_path / "trained", "finetune")
    runs = []
    for share in ("true", "false"):
        experiment, out = load_experiment("tiny", [*settings, f"models.share_base={share}"]), tmp_path / share
        record = shutil.copytree(tmp_path / "trained", out, symlinks=True) / "run.json"
        changed = json.loads(record.read_text()) | {"settings": experiment.model_dump(mode="json")}
        record.write_text(json.dumps(changed))
        runs.append(ExperimentRun.start(experiment, out))
        runs[-1].run("patch", "controls", "lenses")

    # Both children share the clean model's weights.
    context = runs[0].context
    weights = {weight.data_ptr() for weight in context.pair.clean.parameters()}
    for child in (context.pair.corrupted, context.model("twin")):
        assert weights <= {weight.data_ptr() for weight in child.parameters()}
    # The record is the same, fingerprints too: a run may be resumed with either.
    prints = [{name: facts["fingerprint"] for name, facts in run.directory.record()["models"].items()} for run in runs]
    assert prints[0] == prints[1]
    assert len(set(prints[0].values())) == 3
    for table, numbers in ((SCORES, DELTAS), (CONTROLS, DELTAS), (ACTIVATIONS, ["delta_norm"])):
        shared, merged = (run.directory.read(table) for run in runs)
        words = [name for name in ("control", "child", "prompt_id", "patch", "step", "token_id") if name in shared]
        assert not shared.is_empty()
        assert shared.select(words).equals(merged.select(words))
        for name in numbers:
            assert (shared[name] - merged[name]).abs().max() < 1e-3
    shared, merged = (run.directory.read(WEIGHTS) for run in runs)
    assert shared.equals(merged)
    assert set(shared.filter(shared["delta_norm"] > 0)["child"]) == {"corrupted", "twin"}
