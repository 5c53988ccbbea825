"""Low-rank fine-tuning: only the adapter moves, and what is saved is read back as what was trained."""

import copy
import json
from functools import partial

import pytest
import torch

from adapters import logits
from architectures import ARCHITECTURES, tiny_family
from crosspatch.config import Finetune
from crosspatch.experiment import ExperimentRun
from crosspatch.models.adapter import cut_to_adapter, expert_weights, linear_layers, linear_only, with_adapter
from crosspatch.models.loading import Checkpoint
from crosspatch.models.saving import save_adapter, save_model
from crosspatch.models.tiny import tiny_model, tiny_tokenizer
from crosspatch.settings_io import load_experiment
from pairs import random_model
from tuning_examples import interrupted_at, tuned


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_only_the_adapter_is_trained(tmp_path, architecture):
    model = with_adapter(tiny_model(architecture), 4, 8, seed=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    # It begins at nothing.
    torch.testing.assert_close(logits(model), logits(tiny_model(architecture)), atol=1e-5, rtol=0)
    losses = tuned(model, tmp_path, Finetune(method="lora", learning_rate=2e-2, epochs=2))["train_loss"].drop_nulls()
    assert losses[-1] < losses[0] - 0.3
    changed = {name for name, weight in model.state_dict().items() if not weight.equal(before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    assert {name for name in before if "lora_B" in name} <= changed


def test_a_stopped_adapter_resumes_to_the_same_weights(tmp_path, monkeypatch):
    def train(name):
        model = with_adapter(tiny_model("qwen3"), 4, 8, seed=0)
        settings = Finetune(method="lora", learning_rate=2e-2, precision="float32", checkpoint_every=1)
        return tuned(model, tmp_path / name, settings), model.state_dict()

    log, whole = train("whole")
    with interrupted_at(4, monkeypatch), pytest.raises(KeyboardInterrupt):
        train("cut")
    assert (tmp_path / "cut" / "checkpoints" / "corrupted" / "checkpoint-3" / "adapter_model.safetensors").is_file()
    resumed_log, resumed = train("cut")
    assert resumed_log["train_loss"].equals(log["train_loss"])
    assert all(resumed[name].equal(weight) for name, weight in whole.items())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_with_an_adapter_is_a_parent_as_any_other(tmp_path, method):
    """As `taught:smollm2-135m-instruct` is: PEFT freezes what it loads."""
    parent = tmp_path / "parent"
    save_adapter(with_adapter(tiny_model("qwen3"), 4, 8, seed=0), "random:qwen3", parent)
    assert all(weight.requires_grad for weight in Checkpoint.named(str(parent)).model().parameters())
    settings = [f"models.clean={parent}", f"finetune.method={method}", "data.train=4"]
    run = ExperimentRun.start(load_experiment("tiny", settings), tmp_path / "run")
    run.run("finetune")
    clean, child = (Checkpoint.named(str(run.directory.model(name))) for name in ("clean", "corrupted"))
    if method == "lora":
        assert child.kind == "adapter"
        folder = run.directory.model("corrupted")
        assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
        named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert named == str(parent.resolve())
    assert (logits(clean.model()) - logits(child.model())).abs().max() > 0.05


@pytest.mark.parametrize(("base", "name", "revision"), [("owner/model@v2", "owner/model", "v2"), ("a@b", "a@b", None)])
def test_the_revision_of_a_base_is_kept_as_peft_keeps_it(tmp_path, monkeypatch, base, name, revision):
    monkeypatch.chdir(tmp_path)
    # A folder may be called so.
    (tmp_path / "a@b").mkdir()
    save_adapter(with_adapter(tiny_model("qwen3"), 4, 8, seed=1), base, tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    # A folder's path has to be valid from anywhere.
    name = str(tmp_path / name) if revision is None else name
    assert (settings["base_model_name_or_path"], settings["revision"]) == (name, revision)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_a_cut_of_full_rank_is_the_whole_change_and_less_is_less(architecture):
    changed = tiny_model(architecture)
    generator = torch.Generator().manual_seed(3)
    for layer in linear_layers(changed).values():
        layer.weight.data += 0.05 * torch.randn(layer.weight.shape, generator=generator)
    expected, plain = logits(changed), logits(tiny_model(architecture))
    cuts = [cut_to_adapter(tiny_model(architecture), changed, rank, 2 * rank, seed=0) for rank in (1, 8, 200)]
    gaps = [(logits(cut) - expected).abs().max() for cut in cuts]
    # No layer of these models has more than 192 rows or columns.
    assert gaps[2] < 1e-3 < gaps[1] < gaps[0]
    assert gaps[2] < 0.001 * (expected - plain).abs().max()


def test_only_linear_layers_are_trainable_and_not_the_unembedding():
    trained = {name for name, weight in linear_only(tiny_model("qwen3")).named_parameters() if weight.requires_grad}
    assert any("q_proj" in name for name in trained)
    assert not any(word in name for name in trained for word in ("embed", "norm", "lm_head"))
    # They are the layers that an adapter has.
    adapted = (name for name, _ in with_adapter(tiny_model("qwen3"), 2, 4, 0).named_parameters() if ".lora_" in name)
    layers = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in adapted}
    assert {name.removesuffix(".weight") for name in trained} == layers


MIXTURES = {name: ARCHITECTURES[name] for name in ("qwen3_moe", "gpt_oss")}
MIXTURES["mixtral"] = partial(tiny_family, "Mixtral", num_local_experts=4)


@pytest.mark.parametrize("name", MIXTURES)
def test_experts_are_trained_and_read_back(tmp_path, name):
    """Of Qwen's model the second block is dense."""
    base = random_model(MIXTURES[name]())
    adapted = with_adapter(copy.deepcopy(base), 2, 4, seed=0)
    # Every layer and every expert: whatever PEFT took for something else.
    trained = {weight for weight, value in adapted.named_parameters() if value.requires_grad}
    assert len(trained) == 2 * (len(linear_layers(base)) + len(expert_weights(base)))
    assert len(expert_weights(base)) == 2 * sum(name.endswith("experts") for name, _ in base.named_modules())
    tuned(adapted, tmp_path, Finetune(method="lora", learning_rate=2e-2, epochs=2, precision="float32"))
    still = [n for n, w in adapted.named_parameters() if n in trained and "lora_B" in n and not w.abs().sum()]
    assert not still
    save_model(base, tiny_tokenizer(), tmp_path / "base")
    save_adapter(adapted, str(tmp_path / "base"), tmp_path / "adapter")
    read = Checkpoint.named(str(tmp_path / "adapter")).model(device="cpu")
    meant, plain, found = map(logits, (adapted, base, read))
    # Saved in float16, in half the bytes, it means nearly the same.
    assert (found - meant).abs().max() < 0.02 * (meant - plain).abs().max()
