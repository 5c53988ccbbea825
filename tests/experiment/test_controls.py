"""The controls stage: which cells are measured, in both directions, and that a stopped one goes on."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.errors import UsageError
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment.forced_texts import ControlsStage
from crosspatch.settings_io import load_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, CONTROLS, GENERATIONS, SCORES

SMALL = ["data.related=2", "patch.related=2", "generation.max_new_tokens=10", "patch.layers=1,3", "controls=twin"]
CELL = ["prompt_id", "direction", "patch", "step"]


def run_of(out, *settings, stages=("controls",)) -> RunDirectory:
    run = ExperimentRun.start(load_experiment("tiny", [*SMALL, *settings]), out)
    run.run(*stages)
    return run.directory


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("controls") / "run", "patch.direction=both")


def test_every_control_is_measured_in_the_cells_that_have_a_score(finished):
    scores, controls = finished.read(SCORES), finished.read(CONTROLS)
    assert dict(controls.schema) == pl.Schema(CONTROLS.dtypes)
    ok = scores.filter(status="ok").select(CELL).sort(CELL)
    assert ok["direction"].unique().sort().to_list() == ["corrupt", "repair"]
    for name in ("self", "random", "twin"):
        assert controls.filter(control=name).select(CELL).sort(CELL).equals(ok), name
    # The other domains have one prompt each, and so no other one.
    related = ok.filter(pl.col("prompt_id").str.starts_with("related"))
    assert controls.filter(control="other_prompt").select(CELL).sort(CELL).equals(related)


def test_contexts_and_denominators_are_the_patchs_own(finished):
    both = finished.read(CONTROLS).join(finished.read(SCORES), on=CELL, suffix="_own")
    assert both.height == finished.read(CONTROLS).height
    for name in ("clean_token_id", "corrupted_token_id", "position"):
        assert both[name].equals(both[f"{name}_own"], check_names=False), name
    for name in ("delta_clean", "delta_corrupted"):
        assert (both[name] - both[f"{name}_own"]).abs().max() < 1e-4, name
    assert (both["delta_patched"] - both["delta_patched_own"]).abs().max() > 0.1


def test_a_model_patched_into_itself_transfers_nothing_in_either_direction(finished):
    own = finished.read(CONTROLS).filter(control="self")
    ends = own.select(pl.when(pl.col("direction") == "corrupt").then("delta_clean").otherwise("delta_corrupted"))
    assert (own["delta_patched"] - ends.to_series()).abs().max() < 1e-4


def test_the_texts_of_the_second_direction_have_a_name_of_their_own(finished):
    texts = finished.read(GENERATIONS)
    assert texts.group_by("condition").len().sort("condition").rows() == [
        ("clean", 4),
        ("corrupted", 4),
        ("patched", 8),
        ("repaired", 8),
    ]
    assert not texts.filter(condition="patched")["text"].equals(texts.filter(condition="repaired")["text"])
    assert finished.read(BEHAVIOUR).filter(condition="repaired").height == 8


def test_both_directions_are_what_each_is_alone(finished, tmp_path):
    alone = run_of(tmp_path / "repair", "patch.direction=repair", stages=("patch",))
    of_both = finished.read(SCORES).filter(direction="repair")
    keys = ["prompt_id", "patch", "step", "token_id", "clean_token_id", "corrupted_token_id"]
    assert alone.read(SCORES).select(keys).equals(of_both.select(keys))
    assert (alone.read(SCORES)["delta_patched"] - of_both["delta_patched"]).abs().max() < 1e-4
    # Where only one direction is patched its texts are simply patched.
    assert "repaired" not in alone.read(GENERATIONS)["condition"]


def test_a_stopped_stage_goes_on_and_comes_to_the_same(finished, tmp_path, monkeypatch):
    original, done = ControlsStage.score, []

    def stopping(self, shard):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(shard)
        return original(self, shard)

    monkeypatch.setattr(ControlsStage, "score", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path / "run", "patch.direction=both")
    monkeypatch.setattr(ControlsStage, "score", lambda self, shard: done.append(shard) or original(self, shard))
    again = run_of(tmp_path / "run", "patch.direction=both")
    assert len(set(done)) == len(done)
    assert again.read(CONTROLS).sort("control", *CELL).equals(finished.read(CONTROLS).sort("control", *CELL))


def test_chosen_controls_alone_and_none_for_persistent_patches(tmp_path, caplog):
    one = run_of(tmp_path / "one", "patch.controls=random")
    assert set(one.read(CONTROLS)["control"]) == {"random"}
    persistent = load_experiment("tiny", [*SMALL, "patch.persistence=persistent"])
    run = ExperimentRun.start(persistent, tmp_path / "persistent")
    run.run("controls")
    assert run.directory.read(CONTROLS).is_empty()
    assert "only transient patches" in caplog.text


def test_a_control_that_is_none_is_refused():
    with pytest.raises(UsageError, match=r"patch.controls has 'shuffled', expected some of self, random"):
        load_experiment("tiny", ["patch.controls=shuffled"])
