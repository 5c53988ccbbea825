"""Adapters of every kind are what PEFT computes with them, by name, by hub id and in memory, shared or merged."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import TOKENS, are_shared, changed_settings, logits, saved_adapter, saved_base, shared_and_merged
from crosspatch.analysis.patch import patch
from crosspatch.errors import UsageError
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.saving import save_model
from crosspatch.models.smollm2 import smollm2_folder
from crosspatch.models.tiny import tiny_model, tiny_tokenizer
from crosspatch.models.weight_delta import weight_delta
from crosspatch.models.weights import fingerprint
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.sweep import choose_patches
from pairs import ARCHITECTURES

# Logits; they are up to 30 here, and x W + x A B sums in another order than x (W + A B), in float32.
TOLERANCE = 1e-4


def gap(one, other, tokens=TOKENS) -> float:
    return float((logits(one, tokens) - logits(other, tokens)).abs().max())


KINDS = {
    "unembedding": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["embed_tokens"]},
    "both ends": {"target_modules": ["embed_tokens", "lm_head"]},
    "ends kept tied": {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True},
    "whole unembedding": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "whole embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "single tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5, 7]},
    "dora": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "biases": {"target_modules": ["q_proj", "down_proj"], "bias": "lora_only"},
    "pissa": {"target_modules": ["q_proj", "down_proj"], "init_lora_weights": "pissa"},
    "ranks of their own": {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2}, "use_rslora": True},
    "scales of their own": {"target_modules": ["q_proj", "k_proj"], "alpha_pattern": {"k_proj": 1}},
}
# Plain LoRA of linear layers in blocks; everything else is merged.
PLAIN = ("ranks of their own", "scales of their own")


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def tied(request, tmp_path_factory) -> str:
    """A saved base whose embedding and unembedding share their weights."""
    return saved_base(tmp_path_factory.mktemp("tied"), request.param, tie_word_embeddings=True)


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:.*ensure_weight_tying", "ignore:.*save_embedding")
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_child_is_pefts_unmerged_model(tmp_path, tied, kind):
    plain = AutoModelForCausalLM.from_pretrained(tied)
    expected = logits(plain)
    saved_adapter(tmp_path, tied, plain, **KINDS[kind])
    pairs = [ModelPair.load(tied, str(tmp_path), device="cpu", share_base=share) for share in (True, False)]
    unmerged = PeftModel.from_pretrained(plain, tmp_path)
    assert (logits(unmerged) - expected).abs().max() > 0.05
    for pair in pairs:
        assert gap(pair.corrupted, unmerged) < TOLERANCE
        assert logits(pair.clean).equal(expected)
    assert [are_shared(pair) for pair in pairs] == [kind in PLAIN, False]
    assert [hasattr(pair.corrupted, "peft_config") for pair in pairs] == [kind in PLAIN, False]
    assert fingerprint(pairs[0].corrupted) == fingerprint(pairs[1].corrupted)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shared_child_is_the_merged_child_and_leaves_the_base_as_it_was(tmp_path, architecture):
    base = saved_base(tmp_path / "base", architecture)
    pairs = shared, merged = shared_and_merged(
        base, saved_adapter(tmp_path / "adapter", base, tiny_model(architecture))
    )
    assert gap(shared.corrupted, merged.corrupted) < TOLERANCE
    assert logits(shared.clean).equal(logits(merged.clean))
    assert fingerprint(shared.corrupted) == fingerprint(merged.corrupted)
    assert fingerprint(shared.clean) == fingerprint(merged.clean)
    # The control: the child is not the base.
    assert gap(shared.corrupted, shared.clean) > 0.1
    assert fingerprint(shared.clean) != fingerprint(shared.corrupted)
    # Weights are shared, and nothing else.
    size = sum(weight.numel() for weight in shared.clean.parameters())
    assert 0 < sum(weight.numel() for weight in shared.corrupted.parameters()) - size < 0.3 * size
    assert not {id(m) for m in shared.clean.modules()} & {id(m) for m in shared.corrupted.modules()}
    assert shared.clean.config is not shared.corrupted.config
    assert not hasattr(shared.clean, "peft_config")
    trainable = [[n for n, w in pair.clean.named_parameters() if w.requires_grad] for pair in pairs]
    assert trainable[0] == trainable[1]
    # Components: patching/test_shared_base.
    deltas = [weight_delta(pair.clean, pair.corrupted, "corrupted") for pair in pairs]
    assert deltas[0].equals(deltas[1])
    assert deltas[0]["delta_norm"].max() > 0


def test_the_base_of_an_adapter_by_other_names(tmp_path, base, adapter):
    """As in a run: the clean model is a link, the adapter names the folder itself."""
    (tmp_path / "clean").symlink_to(base, target_is_directory=True)
    assert are_shared(ModelPair.load(str(tmp_path / "clean"), str(adapter), device="cpu"))
    for dtype in ("bfloat16", "float16"):
        shared, merged = shared_and_merged(base, adapter, dtype=dtype)
        assert fingerprint(shared.corrupted) == fingerprint(merged.corrupted)
    # A folder with the same weights is another checkpoint.
    assert not are_shared(ModelPair.load(saved_base(tmp_path / "other"), str(adapter), device="cpu"))
    # A random base has the seed of the pair.
    expected = tiny_model("qwen3", 3)
    random = saved_adapter(tmp_path / "random", "random:qwen3", expected)
    for pair in shared_and_merged("random:qwen3", random, seed=3):
        assert gap(pair.corrupted, pair.clean) > 0.1
        assert all(weight.equal(expected.get_parameter(name)) for name, weight in pair.clean.named_parameters())


def test_an_adapter_of_an_adapter(tmp_path, base, adapter):
    """Such as a fine-tune of a taught model: the clean model is merged, and then shared."""
    clean = Checkpoint.named(str(adapter)).model(device="cpu")
    shared, merged = shared_and_merged(adapter, saved_adapter(tmp_path / "second", str(adapter), clean, size=0.2))
    assert gap(shared.corrupted, merged.corrupted) < TOLERANCE
    assert gap(shared.corrupted, shared.clean) > 0.1
    # Nothing is shared where the clean model alone is an adapter.
    pair = ModelPair.load(str(adapter), str(base), device="cpu")
    assert not are_shared(pair)
    assert logits(pair.clean).equal(logits(clean))


def test_an_adapter_that_lacks_a_weight_or_is_its_own_base_is_refused(base, adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, adapter / "adapter_model.safetensors")
    with pytest.raises(UsageError, match="do not match") as error:
        ModelPair.load(str(base), str(adapter), device="cpu")
    assert "\n" not in str(error.value)
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="does not name its base"):
        ModelPair.load(str(base), str(adapter), device="cpu")
    changed_settings(adapter, base_model_name_or_path=str(adapter), peft_type="LORA")
    with pytest.raises(UsageError, match="names itself as its base model, directly or"):
        ModelPair.load(str(base), str(adapter), device="cpu")


def adapted_copy(base, name="default", **settings):
    return get_peft_model(copy.deepcopy(base), LoraConfig(r=4, init_lora_weights=False, **settings), name)


def test_models_in_memory():
    base = tiny_model("qwen3")
    # One model twice is allowed.
    assert ModelPair.of(base, base, tiny_tokenizer()).clean is base
    # An adapter may have any name.
    model = adapted_copy(base, "mine", target_modules=["q_proj"])
    pair = ModelPair.of(base, model, tiny_tokenizer())
    assert fingerprint(pair.corrupted) != fingerprint(pair.clean)
    assert fingerprint(pair.corrupted) == fingerprint(copy.deepcopy(model).merge_and_unload())

    prompts = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(UsageError, match="PREFIX_TUNING, which is more than changed layers"):
        ModelPair.of(base, get_peft_model(tiny_model("qwen3"), prompts), tiny_tokenizer())
    child = copy.deepcopy(base)
    child.model.embed_tokens = base.model.embed_tokens
    on_itself = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"]))
    for sharing in (child, on_itself):
        with pytest.raises(UsageError, match=r"made of the same modules.*copy\.deepcopy\(base\)"):
            ModelPair.of(base, sharing, tiny_tokenizer())


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("qwen3", {"target_modules": ["q_proj", "down_proj"]}),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        ("llama", KINDS["dora"] | {"target_modules": "all-linear"}),
        ("llama", KINDS["whole unembedding"]),
    ],
)
def test_a_peft_model_runs_in_the_cached_engine(architecture, settings):
    """As in the reference engine, which the quick check compares with."""
    base = tiny_model(architecture)
    adapted = adapted_copy(base, **settings)
    expected = logits(adapted)
    pair = ModelPair.of(base, adapted, tiny_tokenizer())
    assert logits(pair.corrupted).equal(expected)
    assert quick_check(pair, choose_patches(pair)) is None


@pytest.mark.parametrize("where", ["attention", "adapter"])
def test_dropout_that_is_left_on_changes_nothing(where):
    base = tiny_model("llama")
    child = adapted_copy(base, target_modules="all-linear", lora_dropout=0.5 if where == "adapter" else 0)
    for block in child.get_base_model().model.layers:
        block.self_attn.attention_dropout = 0.5 if where == "attention" else 0
    pair = ModelPair.of(base.train(), child.train(), tiny_tokenizer())
    assert not any(module.training for model in (pair.clean, pair.corrupted) for module in model.modules())
    plain = patch(pair, "2x = 18", layers=[1], max_new_tokens=4).scores
    # As a training does between two looks at its model.
    child.train()
    assert patch(pair, "2x = 18", layers=[1], max_new_tokens=4).scores.equals(plain)
    # The control: dropout is there.
    child.train()
    assert not torch.equal(*(child(input_ids=TOKENS).logits for _ in range(2)))


@pytest.mark.parametrize(
    ("left_over", "sharded"), [('{"base_model_name_or_path": "random:llama", "peft_type": "LORA"}', False), ("{", True)]
)
def test_a_whole_model_beside_an_adapters_old_settings(tmp_path, adapter, left_over, sharded):
    model = tiny_model("qwen3", seed=3)
    model.save_pretrained(tmp_path / "model", max_shard_size="100KB" if sharded else "5GB")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors.index.json").is_file() is sharded
    (tmp_path / "model" / "adapter_config.json").write_text(left_over)
    named = Checkpoint.named(str(tmp_path / "model"))
    assert named.kind == "folder"
    assert fingerprint(named.model(device="cpu")) == fingerprint(model)
    # With an adapter's weights it is an adapter.
    shutil.copy(adapter / "adapter_model.safetensors", tmp_path / "model")
    assert Checkpoint.named(str(tmp_path / "model")).kind == "adapter"


def on_hub(cache: Path, repository: str, revisions: dict[str, Path]) -> None:
    """Put folders into a hub's cache as revisions of a repository."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    for number, (revision, folder) in enumerate(revisions.items()):
        shutil.copytree(folder, root / "snapshots" / f"{number:040d}")
        (root / "refs" / revision).write_text(f"{number:040d}")


def test_hub_ids_with_revisions_and_with_adapters_alone(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    models = {name: tiny_model("qwen3", seed=seed) for name, seed in (("main", 0), ("v2", 5))}
    for name, model in models.items():
        save_model(model, tiny_tokenizer(), tmp_path / name)
    on_hub(cache, "owner/model", {name: tmp_path / name for name in models})
    # Of the other model only that revision is there.
    on_hub(cache, "owner/other", {"v2": tmp_path / "v2"})
    prints = {name: fingerprint(model) for name, model in models.items()}
    for name, owner, base, revision in (("old", "owner/model", "main", None), ("new", "owner/other", "v2", "v2")):
        folder = Path(saved_adapter(tmp_path / name, owner, models[base]))
        changed_settings(folder, revision=revision)
        prints[name] = fingerprint(PeftModel.from_pretrained(models[base], folder).merge_and_unload())
    on_hub(cache, "owner/adapter", {"main": tmp_path / "old", "new": tmp_path / "new"})
    assert len(set(prints.values())) == 4
    names = ("owner/model", "owner/model@v2", "owner/adapter", "owner/adapter@new")
    for name, expected in zip(names, prints, strict=True):
        checkpoint = Checkpoint.named(name)
        assert checkpoint.tokenizer().get_vocab() == tiny_tokenizer().get_vocab()
        assert checkpoint.kind == ("hub" if expected in models else "adapter")
        assert fingerprint(checkpoint.model(device="cpu")) == prints[expected]
    assert fingerprint(Checkpoint.named(str(tmp_path / "new")).model(device="cpu")) == prints["new"]
    # The last one again, as a run keeps it.
    checkpoint.place(tmp_path / "placed")
    settings = json.loads((tmp_path / "placed" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("owner/other", "v2")


def test_a_placed_adapter_opens_with_peft_alone(tmp_path, monkeypatch, base, adapter):
    monkeypatch.chdir(tmp_path)
    changed_settings(adapter, base_model_name_or_path="base")
    Checkpoint.named("adapter").place(tmp_path / "run" / "clean")
    monkeypatch.chdir("/")
    placed = tmp_path / "run" / "clean"
    assert not placed.is_symlink()
    assert json.loads((placed / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    named = Checkpoint.named(str(placed))
    assert gap(AutoModelForCausalLM.from_pretrained(placed), named.model(device="cpu")) < TOLERANCE
    assert AutoTokenizer.from_pretrained(placed).get_vocab() == tiny_tokenizer().get_vocab()
    # An adapter of the adapter still finds its base, by either name.
    monkeypatch.chdir(tmp_path)
    child = Checkpoint("child", "adapter", saved_adapter(tmp_path / "child", "adapter", tiny_model("qwen3")))
    assert child.is_adapter_of(named)
    assert not child.is_adapter_of(Checkpoint.named(str(base)))


@pytest.mark.slow
def test_the_taught_model_in_a_run_names_the_converted_base(tmp_path):
    taught = Checkpoint.named("taught:smollm2-135m-instruct")
    taught.place(tmp_path / "clean")
    settings = json.loads((tmp_path / "clean" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(smollm2_folder().resolve())
    assert AutoTokenizer.from_pretrained(tmp_path / "clean").chat_template
    assert Checkpoint.named(str(tmp_path / "clean"))._place == taught._place
    tokens = torch.tensor([taught.tokenizer()("Solve for x: 5x + 3 = 18. Subtract 3 from both sides").input_ids])
    assert gap(AutoModelForCausalLM.from_pretrained(tmp_path / "clean"), taught.model(device="cpu"), tokens) < 1e-3
    # Where the cache was cleared, or belongs to another user, the base is converted again.
    changed_settings(tmp_path / "clean", base_model_name_or_path=f"/elsewhere/{smollm2_folder().name}")
    assert Checkpoint.named(str(tmp_path / "clean")).base.where == str(smollm2_folder())
