"""Low-rank fine-tuning: only the adapter moves, and what is saved is read back as what was trained."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from architectures import tiny_architecture
from crosspatch.config import Finetune
from crosspatch.experiment import ExperimentRun
from crosspatch.models.adapter import (
    cut_to_adapter,
    expert_weights,
    linear_layers,
    linear_only,
    with_adapter,
)
from crosspatch.models.loading import Checkpoint
from crosspatch.models.saving import save_adapter, save_model
from crosspatch.models.tiny import _SHAPE, tiny_tokenizer
from crosspatch.settings_io import load_experiment
from pairs import make_pair
from tuning_examples import interrupted_at, tuned

TOKENS = torch.arange(40)[None]


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_only_the_adapter_is_trained(tmp_path, architecture):
    pair = make_pair(architecture)
    model = with_adapter(copy.deepcopy(pair.clean), 4, 8, seed=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.inference_mode():
        # It begins at nothing.
        torch.testing.assert_close(model(TOKENS).logits, pair.clean(TOKENS).logits, atol=1e-5, rtol=0)
    log = tuned(model, tmp_path, Finetune(method="lora", learning_rate=2e-2, epochs=2))
    losses = log["train_loss"].drop_nulls()
    assert losses[-1] < losses[0] - 0.3
    moved = {name for name, weight in model.state_dict().items() if not weight.equal(before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert {name for name in before if "lora_B" in name} <= moved


def test_a_stopped_adapter_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    def train(name):
        model = with_adapter(copy.deepcopy(make_pair("qwen3").clean), 4, 8, seed=0)
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
    base = Checkpoint.named("random:qwen3").model("float32", "cpu")
    parent = tmp_path / "parent"
    save_adapter(with_adapter(base, 4, 8, seed=0), "random:qwen3", parent)
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
    with torch.inference_mode():
        assert (clean.model()(TOKENS).logits - child.model()(TOKENS).logits).abs().max() > 0.05


def test_an_adapter_is_saved_in_half_the_bytes_and_means_nearly_the_same(tmp_path):
    from peft import PeftModel

    pair = make_pair("qwen3")
    model = with_adapter(copy.deepcopy(pair.clean), 4, 8, seed=1)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.05, generator=generator)
    save_adapter(model, "somewhere", tmp_path / "adapter")
    again = PeftModel.from_pretrained(copy.deepcopy(pair.clean), tmp_path / "adapter")
    with torch.inference_mode():
        meant, plain = model(TOKENS).logits, pair.clean(TOKENS).logits
        assert (again(TOKENS).logits - meant).abs().max() < 0.02 * (meant - plain).abs().max()


@pytest.mark.parametrize(("base", "name", "revision"), [("owner/model@v2", "owner/model", "v2"), ("a@b", "a@b", None)])
def test_the_revision_of_a_base_is_kept_as_peft_keeps_it(tmp_path, monkeypatch, base, name, revision):
    monkeypatch.chdir(tmp_path)
    # A folder may be called so.
    (tmp_path / "a@b").mkdir()
    save_adapter(with_adapter(copy.deepcopy(make_pair("qwen3").clean), 4, 8, seed=1), base, tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    # A folder's path has to be valid from anywhere.
    name = str(tmp_path / name) if revision is None else name
    assert (settings["base_model_name_or_path"], settings["revision"]) == (name, revision)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_a_cut_of_full_rank_is_the_whole_change_and_less_is_less(architecture):
    pair = make_pair(architecture)
    changed = copy.deepcopy(pair.clean)
    generator = torch.Generator().manual_seed(3)
    for layer in linear_only(changed).modules():
        if getattr(layer, "weight", None) is not None and layer.weight.requires_grad:
            layer.weight.data += 0.05 * torch.randn(layer.weight.shape, generator=generator)
    with torch.inference_mode():
        wanted, plain = changed(TOKENS).logits, pair.clean(TOKENS).logits
    gaps = []
    for rank in (1, 8, 200):
        cut = cut_to_adapter(copy.deepcopy(pair.clean), changed, rank, 2 * rank, seed=0)
        with torch.inference_mode():
            gaps.append((cut(TOKENS).logits - wanted).abs().max().item())
    # No layer of these models has more than 192 rows or columns.
    assert gaps[2] < 1e-3 < gaps[1] < gaps[0]
    assert gaps[2] < 0.001 * (wanted - plain).abs().max()


def test_only_linear_layers_are_trainable_and_not_the_unembedding():
    model = linear_only(copy.deepcopy(make_pair("qwen3").clean))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any("q_proj" in name for name in trained)
    assert not any(word in name for name in trained for word in ("embed", "norm", "lm_head"))
    # They are the layers that an adapter has.
    adapted = with_adapter(copy.deepcopy(make_pair("qwen3").clean), 2, 4, seed=0)
    names = [name.removeprefix("base_model.model.") for name, _ in adapted.named_parameters()]
    layers = {name.partition(".lora_")[0] for name in names if ".lora_" in name}
    assert {name.removesuffix(".weight") for name in trained} == layers


def mixture(name):
    """A tiny mixture of experts; of Qwen's the second block is dense."""
    if name == "mixtral":
        config = MixtralConfig(**_SHAPE, num_local_experts=4, initializer_range=0.2, pad_token_id=0, bos_token_id=None)
        torch.manual_seed(0)
        return MixtralForCausalLM(config).eval()
    return tiny_architecture(name)


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral", "gpt_oss"])
def test_experts_are_trained_and_read_back(tmp_path, name):
    base = mixture(name)
    adapted = with_adapter(copy.deepcopy(base), 2, 4, seed=0)
    # Every layer and every expert: whatever PEFT took for something else.
    trained = {weight for weight, value in adapted.named_parameters() if value.requires_grad}
    assert len(trained) == 2 * (len(linear_layers(base)) + len(expert_weights(base)))
    assert len(expert_weights(base)) == 2 * sum(
        "experts" in n for n, m in base.named_modules() if n.endswith("experts")
    )
    tuned(adapted, tmp_path, Finetune(method="lora", learning_rate=2e-2, epochs=2, precision="float32"))
    still = [n for n, w in adapted.named_parameters() if n in trained and "lora_B" in n and not w.abs().sum()]
    assert not still
    save_model(base, tiny_tokenizer(), tmp_path / "base")
    save_adapter(adapted, str(tmp_path / "base"), tmp_path / "adapter")
    read = Checkpoint.named(str(tmp_path / "adapter")).model(device="cpu")
    with torch.inference_mode():
        meant, plain, found = (model.eval()(TOKENS).logits for model in (adapted, base, read))
    # It is saved in half the bytes.
    assert (found - meant).abs().max() < 0.02 * (meant - plain).abs().max()
