"""Adapters of every kind are what PEFT computes with them, by name, by hub id and in memory, shared or merged."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import changed_settings, saved_adapter, saved_base
from crosspatch.analysis.patch import patch
from crosspatch.errors import UsageError
from crosspatch.models.components import final_norm, find_components
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.saving import save_model
from crosspatch.models.smollm2 import smollm2_folder
from crosspatch.models.tiny import tiny_config, tiny_model, tiny_tokenizer
from crosspatch.models.weight_delta import weight_delta
from crosspatch.models.weights import fingerprint
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.sweep import choose_patches
from pairs import ARCHITECTURES

TOKENS = torch.arange(40)[None]
# Logits; they are up to 30 here, and x W + x A B sums in another order than x (W + A B), in float32.
TOLERANCE = 1e-4


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=TOKENS, use_cache=False).logits


def gap(one, other) -> float:
    return float((logits(one) - logits(other)).abs().max())


def storages(model) -> set[int]:
    return {weight.data_ptr() for weight in model.parameters()}


def are_shared(pair: ModelPair) -> bool:
    """Whether the corrupted model has all of the clean one's weights, or none of them."""
    common = storages(pair.clean) & storages(pair.corrupted)
    assert common in (set(), storages(pair.clean))
    return bool(common)


def shared_and_merged(base, adapter, **options) -> tuple[ModelPair, ModelPair]:
    shared, merged = (
        ModelPair.load(str(base), str(adapter), device="cpu", share_base=share, **options) for share in (True, False)
    )
    assert are_shared(shared)
    assert not are_shared(merged)
    return shared, merged


# A child is the unmerged model of PEFT

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


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:.*ensure_weight_tying", "ignore:.*save_embedding")
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_child_is_pefts_unmerged_model(tmp_path, kind, architecture):
    base, config = str(tmp_path / "base"), tiny_config(architecture)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    save_model(AutoModelForCausalLM.from_config(config), tiny_tokenizer(), tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **KINDS[kind]))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(tmp_path / "adapter")
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert gap(unmerged, plain) > 0.05
    pairs = [ModelPair.load(base, str(tmp_path / "adapter"), device="cpu", share_base=share) for share in (True, False)]
    for pair in pairs:
        assert gap(pair.corrupted, unmerged) < TOLERANCE
        assert logits(pair.clean).equal(logits(plain))
    assert [are_shared(pair) for pair in pairs] == [kind in PLAIN, False]
    assert [hasattr(pair.corrupted, "peft_config") for pair in pairs] == [kind in PLAIN, False]
    assert fingerprint(pairs[0].corrupted) == fingerprint(pairs[1].corrupted)


# On the clean model's own weights


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pairs(request, tmp_path_factory) -> tuple[ModelPair, ModelPair]:
    """The same pair with the base kept once, and with the adapter merged into weights of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    base = saved_base(folder / "base", request.param)
    return shared_and_merged(base, saved_adapter(folder / "adapter", base, tiny_model(request.param)))


def test_a_shared_child_is_the_merged_child(pairs):
    shared, merged = pairs
    assert gap(shared.corrupted, merged.corrupted) < TOLERANCE
    assert logits(shared.clean).equal(logits(merged.clean))
    assert fingerprint(shared.corrupted) == fingerprint(merged.corrupted)
    assert fingerprint(shared.clean) == fingerprint(merged.clean)
    # The control: the child is not the base.
    assert gap(shared.corrupted, shared.clean) > 0.1
    assert fingerprint(shared.clean) != fingerprint(shared.corrupted)


def test_only_weights_are_shared_and_the_base_is_left_as_it_was(pairs):
    shared, _ = pairs
    more = sum(w.numel() for w in shared.corrupted.parameters()) - sum(w.numel() for w in shared.clean.parameters())
    assert 0 < more < 0.3 * sum(weight.numel() for weight in shared.clean.parameters())
    assert not {id(m) for m in shared.clean.modules()} & {id(m) for m in shared.corrupted.modules()}
    assert shared.clean.config is not shared.corrupted.config
    assert not hasattr(shared.clean, "peft_config")
    trainable = [[n for n, w in pair.clean.named_parameters() if w.requires_grad] for pair in pairs]
    assert trainable[0] == trainable[1]


def test_components_and_weight_deltas_are_those_of_the_merged_child(pairs):
    shared, merged = pairs
    assert find_components(shared.corrupted) == find_components(merged.corrupted)
    assert type(final_norm(shared.corrupted)) is type(final_norm(merged.corrupted))
    deltas = [weight_delta(pair.clean, pair.corrupted, "corrupted") for pair in pairs]
    assert deltas[0].equals(deltas[1])
    assert deltas[0]["delta_norm"].max() > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_fingerprint_in_half_precision(base, adapter, dtype):
    shared, merged = shared_and_merged(base, adapter, dtype=dtype)
    assert fingerprint(shared.corrupted) == fingerprint(merged.corrupted)


def test_names_of_one_folder(tmp_path, base, adapter):
    """As in a run: the clean model is a link, the adapter names the folder itself."""
    (tmp_path / "clean").symlink_to(base, target_is_directory=True)
    assert are_shared(ModelPair.load(str(tmp_path / "clean"), str(adapter), device="cpu"))
    # A folder with the same weights is another checkpoint.
    assert not are_shared(ModelPair.load(saved_base(tmp_path / "other"), str(adapter), device="cpu"))


def test_an_adapter_of_an_adapter(tmp_path, adapter):
    """Such as a fine-tune of a taught model: the clean model is merged, and then shared."""
    clean = Checkpoint.named(str(adapter)).model(device="cpu")
    shared, merged = shared_and_merged(adapter, saved_adapter(tmp_path / "second", str(adapter), clean, size=0.2))
    assert gap(shared.corrupted, merged.corrupted) < TOLERANCE
    assert gap(shared.corrupted, shared.clean) > 0.1


def test_a_clean_adapter_is_merged(base, adapter):
    pair = ModelPair.load(str(adapter), str(base), device="cpu")
    assert not are_shared(pair)
    assert logits(pair.clean).equal(logits(Checkpoint.named(str(adapter)).model(device="cpu")))


def test_a_random_base_has_the_seed_of_the_pair(tmp_path):
    expected = tiny_model("qwen3", 3)
    adapter = saved_adapter(tmp_path / "adapter", "random:qwen3", expected)
    for pair in shared_and_merged("random:qwen3", adapter, seed=3):
        assert gap(pair.corrupted, pair.clean) > 0.1
        assert all(weight.equal(expected.get_parameter(name)) for name, weight in pair.clean.named_parameters())


def test_an_adapter_that_lacks_a_weight_is_refused(base, adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, adapter / "adapter_model.safetensors")
    with pytest.raises(UsageError, match="do not match") as error:
        ModelPair.load(str(base), str(adapter), device="cpu")
    assert "\n" not in str(error.value)


def test_an_adapter_of_itself_or_of_nothing_is_refused(base, adapter):
    changed_settings(adapter, base_model_name_or_path=str(adapter))
    with pytest.raises(UsageError, match="leads back to itself"):
        ModelPair.load(str(base), str(adapter), device="cpu")
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="does not name its base"):
        ModelPair.load(str(base), str(adapter))


# In memory


def adapted_copy(base, **settings):
    return get_peft_model(copy.deepcopy(base), LoraConfig(r=4, init_lora_weights=False, **settings))


def test_models_that_share_modules_are_refused():
    base = tiny_model("llama")
    child = copy.deepcopy(base)
    child.model.embed_tokens = base.model.embed_tokens
    with pytest.raises(UsageError, match="same modules"):
        ModelPair.of(base, child, tiny_tokenizer())
    # One model twice is allowed.
    assert ModelPair.of(base, base, tiny_tokenizer()).clean is base
    with pytest.raises(UsageError, match=r"made of the same modules.*copy\.deepcopy\(base\)"):
        ModelPair.of(base, get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])), tiny_tokenizer())


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("qwen3", {"target_modules": ["q_proj", "down_proj"]}),
        ("llama", {"target_modules": "all-linear", "use_dora": True}),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        ("qwen3", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    ],
)
def test_a_peft_model_runs_in_the_cached_engine(architecture, settings, caplog):
    base = tiny_model(architecture)
    adapted = adapted_copy(base, **settings)
    expected = logits(adapted)
    pair = ModelPair.of(base, adapted, tiny_tokenizer())
    assert logits(pair.corrupted).equal(expected)
    assert quick_check(pair, choose_patches(pair)) is None
    fast, slow = (
        patch(pair, "2x = 18", layers=[1, -1], max_new_tokens=4, engine=engine) for engine in ("cached", "reference")
    )
    assert not [record for record in caplog.records if record.name.startswith("crosspatch")]
    assert fast.generations.equals(slow.generations)


def test_an_adapter_of_another_name_has_a_fingerprint():
    base = tiny_model("qwen3")
    settings = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"])
    model = get_peft_model(copy.deepcopy(base), settings, adapter_name="mine")
    pair = ModelPair.of(base, model, tiny_tokenizer())
    assert fingerprint(pair.corrupted) != fingerprint(pair.clean)
    assert fingerprint(pair.corrupted) == fingerprint(copy.deepcopy(model).merge_and_unload())


def test_learned_prompts_are_refused():
    model = get_peft_model(tiny_model("llama"), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(UsageError, match="PREFIX_TUNING, which is more than changed layers"):
        ModelPair.of(tiny_model("llama"), model, tiny_tokenizer())


@pytest.mark.parametrize("where", ["attention", "adapter"])
def test_dropout_that_is_left_on_changes_nothing(where):
    base = tiny_model("llama")
    child = adapted_copy(base, target_modules="all-linear", lora_dropout=0.5 if where == "adapter" else 0)
    for module in child.modules():
        if where == "attention" and hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    pair = ModelPair.of(base.train(), child.train(), tiny_tokenizer())
    assert not any(module.training for model in (pair.clean, pair.corrupted) for module in model.modules())
    results = []
    for _ in range(2):
        # As a training does between two looks at its model.
        child.train()
        results.append(patch(pair, "2x = 18", layers=[1], max_new_tokens=6).scores)
    assert results[0].equals(results[1])
    # The control: dropout is there.
    child.train()
    assert not torch.equal(*(child(input_ids=TOKENS).logits for _ in range(2)))


# Folders and hub ids


@pytest.mark.parametrize("left_over", ['{"base_model_name_or_path": "random:llama", "peft_type": "LORA"}', "{"])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_whole_model_beside_an_adapters_old_settings(tmp_path, left_over, sharded):
    model = tiny_model("qwen3", seed=3)
    model.save_pretrained(tmp_path / "model", max_shard_size="100KB" if sharded else "5GB")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors.index.json").is_file() is sharded
    (tmp_path / "model" / "adapter_config.json").write_text(left_over)
    named = Checkpoint.named(str(tmp_path / "model"))
    assert named.kind == "folder"
    assert fingerprint(named.model(device="cpu")) == fingerprint(model)


def test_an_adapter_beside_a_config_is_an_adapter(base, adapter):
    shutil.copy(base / "config.json", adapter)
    assert Checkpoint.named(str(adapter)).kind == "adapter"


def on_hub(cache: Path, repository: str, revision: str, folder: Path, *, main: bool = False) -> None:
    """Put a folder into a hub's cache as a revision of a repository."""
    root = cache / f"models--{repository.replace('/', '--')}"
    commit = f"{sum(map(ord, repository + revision)):040d}"
    shutil.copytree(folder, root / "snapshots" / commit)
    (root / "refs").mkdir(parents=True, exist_ok=True)
    for name in (revision, *(["main"] if main else [])):
        (root / "refs" / name).write_text(commit)


PROGRAM = """
import json, sys, tempfile
from pathlib import Path
from crosspatch.models.loading import Checkpoint
from crosspatch.models.weights import fingerprint
for name in sys.argv[1:]:
    checkpoint = Checkpoint.named(name)
    checkpoint.tokenizer()
    print(checkpoint.kind, fingerprint(checkpoint.model(device="cpu")))
with tempfile.TemporaryDirectory() as folder:
    # The last one again, as a run keeps it.
    checkpoint.place(Path(folder) / "placed")
    settings = json.loads((Path(folder) / "placed" / "adapter_config.json").read_text())
    print(settings["base_model_name_or_path"], settings["revision"])
"""


def test_hub_ids_with_revisions_and_with_adapters_alone(tmp_path):
    cache = tmp_path / "cache"
    models = {name: tiny_model("qwen3", seed=seed) for name, seed in (("main", 0), ("v2", 5))}
    for name, model in models.items():
        save_model(model, tiny_tokenizer(), tmp_path / name)
        on_hub(cache, "owner/model", name, tmp_path / name)
    merged = {}
    # Of the other model only that revision is there.
    on_hub(cache, "owner/other", "v2", tmp_path / "v2")
    for name, revision, owner in (("old", None, "owner/model"), ("new", "v2", "owner/other")):
        base = models[revision or "main"]
        folder = Path(saved_adapter(tmp_path / name, owner, base))
        changed_settings(folder, revision=revision)
        on_hub(cache, "owner/adapter", name, folder, main=name == "old")
        merged[name] = fingerprint(PeftModel.from_pretrained(copy.deepcopy(base), folder).merge_and_unload())
    names = ["owner/model", "owner/model@v2", "owner/adapter", "owner/adapter@new", str(tmp_path / "new")]
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:-1] == [
        f"hub {fingerprint(models['main'])}",
        f"hub {fingerprint(models['v2'])}",
        f"adapter {merged['old']}",
        f"adapter {merged['new']}",
        f"adapter {merged['new']}",
        "owner/other v2",
    ]
    assert merged["old"] != merged["new"]


# A run's copy


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
def test_the_taught_model_in_a_run_opens_with_peft_alone(tmp_path):
    taught = Checkpoint.named("taught:smollm2-135m-instruct")
    taught.place(tmp_path / "clean")
    settings = json.loads((tmp_path / "clean" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(smollm2_folder().resolve())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "clean")
    assert AutoTokenizer.from_pretrained(tmp_path / "clean").chat_template
    named = Checkpoint.named(str(tmp_path / "clean"))
    assert named._place == taught._place
    ids = torch.tensor([taught.tokenizer()("Solve for x: 5x + 3 = 18. Subtract 3 from both sides").input_ids])
    with torch.inference_mode():
        one, other = (model(input_ids=ids).logits for model in (plain, named.model(device="cpu")))
    assert (one - other).abs().max() < 1e-3
    # Where the cache was cleared, or belongs to another user, the base is converted again.
    changed_settings(tmp_path / "clean", base_model_name_or_path=f"/elsewhere/{smollm2_folder().name}")
    assert Checkpoint.named(str(tmp_path / "clean")).base.where == str(smollm2_folder())
