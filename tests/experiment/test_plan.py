"""The plan of an experiment: counted as the run counts it, and without weights, a hub or a run directory."""

import json
import math
from pathlib import Path

import pytest

from crosspatch import load_experiment
from crosspatch.experiment import checks
from crosspatch.experiment.plan import BLOCK, CELL, gpus_for, plan, writing_time
from crosspatch.experiment.problems import all_problems
from crosspatch.models.adapter import with_adapter
from crosspatch.models.chat import PromptFormat
from crosspatch.models.loading import SMOLLM2, Checkpoint
from crosspatch.models.shapes import Shape
from crosspatch.models.throughput import Throughput
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import TRAINING
from sweeps import SETTINGS


def rows(experiment: str = "tiny", *settings: str, command: str = "run"):
    """The rows of a plan by stage; where a stage has several, by what it does too."""
    found = plan(load_experiment(experiment, settings), command).rows
    return {row.stage: row for row in found} | {f"{row.stage} {row.what.split(',')[0]}": row for row in found}


@pytest.mark.parametrize("name", ["random:qwen3", "random:llama", "random:gpt2"])
def test_parameters_are_those_of_the_model_and_its_adapter(name):
    shape, model = Shape.of(name), Checkpoint.named(name).model()
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    # Without tied weights the embedding is looked up, and the unembedding multiplied with.
    assert shape.multiplied == shape.parameters - model.get_input_embeddings().weight.numel()
    adapted = with_adapter(model, 4, 8, seed=0)
    assert sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad) == 4 * shape.linear_sides


def test_the_shipped_configurations_and_the_hosts_time():
    assert [Shape.of(name).parameters for name in ("Qwen/Qwen3-4B", SMOLLM2)] == [4_022_468_096, 134_515_008]
    # Every pass and every scored cell takes the host its time.
    shape, fast = Shape.of(SMOLLM2), Throughput({"float32": 1e30}, 1e30, False)
    ten, twenty, scored = (writing_time(fast, shape, 100, *n, "float32") for n in ((10, 0), (20, 0), (10, 7)))
    assert (ten, twenty, scored - ten) == pytest.approx((300 * BLOCK, 600 * BLOCK, 7 * CELL))


def test_steps_and_tokens_are_those_of_the_run(ready):
    settings = (*SETTINGS, "controls=twin")
    planned, problems = rows("tiny", *settings), all_problems(load_experiment("tiny", settings))
    assert problems["train"] == RunDirectory(ready).problems("train")
    assert planned["finetune corrupted"].steps == RunDirectory(ready).read(TRAINING)["step"].max()
    prompts = PromptFormat(Checkpoint.named("random:qwen3").tokenizer())
    for stage, name, split in (("finetune", "corrupted", "train"), ("references", "twin", "twin")):
        lengths = [prompts.example_length(p.question, p.solution) for p in problems[split]]
        assert planned[f"{stage} {name}"].tokens == sum(lengths)


def test_the_papers_run_fits_its_gpu_and_with_lora_a_small_one():
    """Section 3.1 and Table 1: one A100 with 80 GB; LoRA on 24 GB."""
    whole = rows("paper")["finetune"]
    assert 65 < whole.memory < 80
    assert whole.steps == math.ceil(50 / 4) * 3
    assert rows("paper", "finetune.method=lora", "finetune.weights=bfloat16")["finetune"].memory < 20
    assert rows("paper", "finetune.optimizer=adamw_8bit")["finetune"].memory < 55
    # The control: not everything fits.
    assert rows("paper", "finetune.recompute=false", "finetune.batch_size=16")["finetune"].memory > 80


def test_a_dry_run_prints_a_table_and_makes_nothing(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = cli("run", "paper", "--dry-run", code=0).out
    for words in ("finetune", "corrupted, full", "4.02 G", "39", "GB", "on an A100", "configuration from crosspatch"):
        assert words in said
    assert "36" in cli("run", "paper", "--dry-run", "--set", "patch.layers=[36]", code=2).err
    # A dry run may be for another machine, with other packages.
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    for command, without_related in (("search", 2), ("teach", 0)):
        assert "estimated cost" in cli(command, "teach", "--dry-run", "--set", "finetune.report_to=wandb")[1]
        assert cli(command, "teach", "--dry-run", "--set", "data.related=0")[0] == without_related
    assert cli("run", "tiny", "--dry-run", "--set", "finetune.report_to=wandb")[0] == 0
    assert not list(tmp_path.iterdir())


def test_a_search_is_planned_variant_by_variant():
    planned = rows("tiny", "search.epochs=[1, 4]", "search.examples=[4]", command="search")
    one, four = (planned[f"search variant-epochs-{epochs}"] for epochs in (1, 4))
    assert (one.steps, four.steps) == (1, 4)
    assert "search 8 questions to 3 models" in planned
    assert four.tokens == 4 * one.tokens


def test_a_teaching_is_planned_as_it_goes():
    """The shipped recipe says how many steps it took."""
    recipe = json.loads(Path(Checkpoint.named("taught:smollm2-135m-instruct").where, "recipe.json").read_text())
    own, whole, finetuning, asked = plan(load_experiment("teach"), "teach").rows
    assert own.what == "1120 own answers"
    # 32 lessons are held out, and answers of nothing are no lessons.
    assert recipe["steps"]["taught-whole"] == pytest.approx(whole.steps, abs=4)
    assert recipe["steps"]["taught"] == pytest.approx(finetuning.steps, abs=2)
    assert finetuning.trained < whole.trained / 10
    assert asked.what == "304 questions to 2 models"


def test_patching_and_controls_are_planned_as_they_are_set():
    one, both = (rows("tiny", f"patch.direction={direction}")["patch"] for direction in ("corrupt", "both"))
    # Four prompts of 24 new tokens; the unpatched models write theirs once.
    unpatched = 2 * 4 * 24
    assert both.tokens - unpatched == 2 * (one.tokens - unpatched)
    assert "4 patches each in both directions" in both.what
    # The whole sweep of a tiny model is one shard.
    assert ", 16 rows at once" in one.what
    assert rows("tiny", "controls=twin")["controls"].tokens > rows("tiny")["controls"].tokens
    assert "controls" not in rows("tiny", "patch.controls=[]")
    assert "controls" not in rows("tiny", "patch.persistence=persistent")


def test_a_pair_takes_as_many_gpus_as_hold_it_and_rows_as_are_set_or_fit():
    def large(model: str, *settings: str):
        more = ("patch.layers=all", "data.related=100", "patch.related=100", f"models.clean={model}", *settings)
        return rows("paper", *more)["patch"]

    assert [gpus_for(gb * 1e9) for gb in (0, 1, 72, 73, 144, 145)] == [1, 1, 1, 2, 2, 3]
    qwen, llama = "Qwen/Qwen3-4B", "meta-llama/Llama-3.3-70B-Instruct"
    assert large(qwen).gpus == 1
    # Two models of 70.6 G numbers in two bytes are 282 GB.
    whole = large(llama)
    assert 282 < whole.memory < 360
    assert whole.gpus == 5
    assert whole.gpu_hours == pytest.approx(5 * whole.seconds_a100 / 3600)
    # An adapter shares the clean model's weights, unless that is turned off.
    apart = large(llama, "finetune.method=lora", "models.share_base=false")
    assert large(llama, "finetune.method=lora").gpus < apart.gpus == whole.gpus
    assert large(llama, "models.quantization=4bit").memory < whole.memory / 2
    assert ", 64 rows at once" in large(qwen, "patch.shard_rows=64").what
    some, fewer = (large(qwen, f"patch.memory_gb={gb}") for gb in (40, 5))
    assert some.memory > fewer.memory
    assert some.seconds_a100 < fewer.seconds_a100
