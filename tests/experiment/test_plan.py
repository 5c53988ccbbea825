"""The plan of an experiment: counted as the run counts it, and without weights, a hub or a run directory."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from crosspatch.config import Finetune
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment.plan import BLOCK, CELL, gpus_for, plan, writing_time
from crosspatch.models.adapter import with_adapter
from crosspatch.models.chat import PromptFormat
from crosspatch.models.loading import SMOLLM2, Checkpoint
from crosspatch.models.shapes import Shape
from crosspatch.models.throughput import Throughput
from crosspatch.settings_io import load_experiment
from crosspatch.tables import TRAINING


def rows(experiment):
    return {f"{row.stage} {row.what.split(',')[0]}": row for row in plan(experiment).rows}


@pytest.mark.parametrize("name", ["random:qwen3", "random:llama", "random:gpt2"])
def test_parameters_are_those_of_the_model(name):
    shape = Shape.of(name)
    model = Checkpoint.named(name).model()
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    # Without tied weights the embedding is looked up, and the unembedding multiplied with.
    assert shape.multiplied == shape.parameters - model.get_input_embeddings().weight.numel()


@pytest.mark.parametrize("name", ["random:qwen3", "random:gpt2"])
def test_an_adapter_has_as_many_numbers_as_are_planned(name):
    model = with_adapter(Checkpoint.named(name).model(), 4, 8, seed=0)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert trained == 4 * Shape.of(name).linear_sides


def test_the_kept_configurations_are_the_models_own():
    assert Shape.of("Qwen/Qwen3-4B").parameters == 4_022_468_096
    assert Shape.of(SMOLLM2).parameters == 134_515_008


def test_steps_and_tokens_are_those_of_the_run(tmp_path):
    experiment = load_experiment("tiny", ["controls=twin"])
    planned = rows(experiment)
    run = ExperimentRun.start(experiment, tmp_path / "run")
    run.run("finetune")
    log = run.directory.read(TRAINING)
    assert planned["finetune corrupted"].steps == log.filter(run="corrupted")["step"].max()
    prompts = PromptFormat(Checkpoint.named("random:qwen3").tokenizer())
    for name, split in (("corrupted", "train"), ("twin", "twin")):
        lengths = [prompts.example_length(p.question, p.solution) for p in run.directory.problems(split)]
        assert planned[f"finetune {name}"].tokens == 3 * sum(lengths)


def test_the_papers_run_fits_its_gpu_and_with_lora_a_small_one():
    """Section 3.1: one A100 with 80 GB; LoRA on 24 GB."""
    whole = rows(load_experiment("paper"))["finetune corrupted"]
    assert 65 < whole.memory < 80
    assert whole.steps == math.ceil(50 / 4) * 3
    lora = ["finetune.method=lora", "finetune.weights=bfloat16"]
    assert rows(load_experiment("paper", lora))["finetune corrupted"].memory < 20
    assert rows(load_experiment("paper", ["finetune.optimizer=adamw_8bit"]))["finetune corrupted"].memory < 55
    # The control: not everything fits.
    much = ["finetune.recompute=false", "finetune.batch_size=16"]
    assert rows(load_experiment("paper", much))["finetune corrupted"].memory > 80


def test_the_papers_settings_are_all_there():
    """Section 3.1 and Table 1."""
    paper = load_experiment("paper")
    assert paper.finetune == Finetune(
        learning_rate=3e-5, epochs=3, batch_size=2, accumulation=2, weight_decay=0.01, warmup=0.1, eval_every=10,
        precision="bf16", recompute=True,
    )  # fmt: skip
    assert (paper.data.train, paper.data.validation, paper.search.epochs) == (50, 10, (3, 12, 20))


def test_a_dry_run_prints_a_table_and_makes_nothing(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, _ = cli("run", "paper", "--dry-run")
    assert code == 0
    for words in ("finetune", "corrupted, full", "4.02 G", "39", "GB", "on an A100", "configuration as it is kept"):
        assert words in said
    assert not list(tmp_path.iterdir())
    code, _, err = cli("run", "paper", "--dry-run", "--set", "patch.layers=[36]")
    assert code == 2
    assert "36" in err


def test_a_search_is_planned_variant_by_variant():
    experiment = load_experiment("tiny", ["search.epochs=[1, 4]", "search.examples=[4]"])
    trained = plan(experiment, "search").rows[:-1]
    assert [(row.what, row.steps) for row in trained] == [
        ("variant-epochs-1, full", 1), ("variant-epochs-4, full", 4),
    ]  # fmt: skip
    assert trained[1].tokens == 4 * trained[0].tokens
    assert "3 models" in plan(experiment, "search").rows[-1].what


def test_a_teaching_is_planned_as_it_goes():
    """The shipped recipe says how many steps it took."""
    recipe = json.loads((Path(Checkpoint.named("taught:smollm2-135m-instruct").where) / "recipe.json").read_text())
    own, whole, finetuning, asked = plan(load_experiment("teach"), "teach").rows
    assert own.what == "1120 answers of its own"
    # 32 lessons are held out, and answers of nothing are no lessons.
    assert recipe["steps"]["taught-whole"] == pytest.approx(whole.steps, abs=4)
    assert recipe["steps"]["taught"] == pytest.approx(finetuning.steps, abs=2)
    assert finetuning.trained < whole.trained / 10
    assert asked.what == "304 questions to 2 models"


def test_other_commands_have_a_dry_run_too(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, without_related in (("search", 2), ("teach", 0)):
        assert "estimated cost" in cli(command, "teach", "--dry-run")[1]
        assert cli(command, "teach", "--dry-run", "--set", "data.related=0")[0] == without_related
    assert not list(tmp_path.iterdir())


def patch_row(*settings: str):
    return next(row for row in plan(load_experiment("tiny", settings)).rows if row.stage == "patch")


def test_both_directions_are_twice_the_patching():
    one, both = (patch_row(f"patch.direction={direction}") for direction in ("corrupt", "both"))
    # Four prompts of 24 new tokens; the unpatched models write theirs once.
    unpatched = 2 * 4 * 24
    assert both.tokens - unpatched == 2 * (one.tokens - unpatched)
    assert "4 patches each in both directions" in both.what


def test_controls_are_planned_where_they_are_measured():
    def controls(*settings: str):
        return [row for row in plan(load_experiment("tiny", settings)).rows if row.stage == "controls"]

    assert len(controls()) == 1
    assert controls("controls=twin")[0].tokens > controls()[0].tokens
    assert not controls("patch.controls=[]")
    assert not controls("patch.persistence=persistent")


def large(model: str, *settings: str):
    more = ("patch.layers=all", "data.related=1000", "patch.related=1000", f"models.clean={model}", *settings)
    return {row.stage: row for row in plan(load_experiment("paper", more)).rows}


def test_a_pair_takes_as_many_gpus_as_hold_it():
    assert [gpus_for(gb * 1e9) for gb in (0, 1, 72, 73, 144, 145)] == [1, 1, 1, 2, 2, 3]
    assert large("Qwen/Qwen3-4B")["patch"].gpus == 1
    # Two models of 70.6 G numbers in two bytes are 282 GB.
    whole = large("meta-llama/Llama-3.3-70B-Instruct")["patch"]
    assert 282 < whole.memory < 360
    assert whole.gpus == 5
    assert whole.gpu_hours == pytest.approx(5 * whole.seconds_a100 / 3600)
    # An adapter stands on the clean model's weights, unless that is turned off.
    shared = large("meta-llama/Llama-3.3-70B-Instruct", "finetune.method=lora")["patch"]
    apart = large("meta-llama/Llama-3.3-70B-Instruct", "finetune.method=lora", "models.share_base=false")["patch"]
    assert shared.gpus < apart.gpus == whole.gpus
    small = large("meta-llama/Llama-3.3-70B-Instruct", "models.quantization=4bit")["patch"]
    assert small.memory < whole.memory / 2


def test_the_rows_are_those_that_are_set_or_fit():
    assert ", 64 rows at once" in large("Qwen/Qwen3-4B", "patch.shard_rows=64")["patch"].what
    some, fewer = (large("Qwen/Qwen3-4B", f"patch.memory_gb={gb}")["patch"] for gb in (40, 5))
    assert some.memory > fewer.memory
    assert some.seconds_a100 < fewer.seconds_a100
    # A tiny model's whole sweep is one shard.
    assert ", 16 rows at once" in patch_row().what


def test_every_pass_and_every_scored_cell_takes_the_host_its_time():
    shape, fast = Shape.of(SMOLLM2), Throughput({"float32": 1e30}, 1e30, False)

    def seconds(passes: int, cells: int) -> float:
        return writing_time(fast, shape, 100, passes, cells, "float32")

    assert seconds(10, 0) == pytest.approx(10 * 30 * BLOCK)
    assert seconds(20, 0) == pytest.approx(2 * seconds(10, 0))
    assert seconds(10, 7) - seconds(10, 0) == pytest.approx(7 * CELL)
