"""Adapters of every kind are what PEFT computes with them, by name, by hub id and in memory."""

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
from transformers import AutoModelForCausalLM

from adapters import saved_adapter
from crosspatch.analysis.patch import patch
from crosspatch.errors import UsageError
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.saving import save_model
from crosspatch.models.tiny import tiny_config, tiny_model, tiny_tokenizer
from crosspatch.models.weights import fingerprint
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.sweep import choose_patches

TOKENS = torch.arange(40)[None]
# Logits; they are up to 30 here, and x W + x A B sums in another order than x (W + A B).
TOLERANCE = 1e-4


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=TOKENS).logits


def tied_base(folder: Path, architecture: str) -> str:
    """A model whose unembedding is its embedding."""
    config = tiny_config(architecture)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    save_model(model, tiny_tokenizer(), folder)
    return str(folder)


KINDS = {
    "unembedding": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["embed_tokens"]},
    "both ends": {"target_modules": ["embed_tokens", "lm_head"]},
    "ends kept tied": {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True},
    "whole unembedding": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "whole embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "single tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5, 7]},
    "dora": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "ranks of their own": {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2}, "use_rslora": True},
}


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:.*ensure_weight_tying", "ignore:.*save_embedding")
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_child_is_pefts_unmerged_model(tmp_path, kind, architecture):
    base = tied_base(tmp_path / "base", architecture)
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
    expected, plain = logits(unmerged), logits(AutoModelForCausalLM.from_pretrained(base))
    assert (expected - plain).abs().max() > 0.05
    for share_base in (True, False):
        pair = ModelPair.load(base, str(tmp_path / "adapter"), device="cpu", share_base=share_base)
        assert (logits(pair.corrupted) - expected).abs().max() < TOLERANCE
        assert logits(pair.clean).equal(plain)


# In memory


def adapted_copy(base, **settings):
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=4, init_lora_weights=False, **settings))
    return model


def test_a_model_that_peft_has_changed_in_place_is_refused():
    base = tiny_model("qwen3")
    with pytest.raises(UsageError, match=r"made of the same modules.*copy\.deepcopy\(base\)"):
        ModelPair.of(base, get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])), tiny_tokenizer())


def test_models_that_share_some_modules_are_refused():
    base = tiny_model("llama")
    child = copy.deepcopy(base)
    child.model.embed_tokens = base.model.embed_tokens
    with pytest.raises(UsageError, match="same modules"):
        ModelPair.of(base, child, tiny_tokenizer())
    # One model twice is meant so.
    assert ModelPair.of(base, base, tiny_tokenizer()).clean is base


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


def test_an_adapter_of_another_name_has_a_fingerprint(tmp_path):
    base = tiny_model("qwen3")
    model = get_peft_model(
        copy.deepcopy(base), LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"]), adapter_name="mine"
    )
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
    if where == "attention":
        child = copy.deepcopy(tiny_model("llama", seed=1))
        for module in child.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.5
    else:
        child = adapted_copy(base, target_modules="all-linear", lora_dropout=0.5)
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
    assert logits(named.model(device="cpu")).equal(logits(model))


def test_an_adapter_beside_a_config_is_an_adapter(tmp_path):
    base = tiny_model("qwen3")
    base.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    folder = Path(saved_adapter(tmp_path / "adapter", str(tmp_path / "base"), base))
    shutil.copy(tmp_path / "base" / "config.json", folder)
    assert Checkpoint.named(str(folder)).kind == "adapter"


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
from crosspatch.models.pair import ModelPair
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
        settings = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**settings, "revision": revision}))
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


def test_a_revision_without_a_name():
    with pytest.raises(UsageError, match="no model folder or file owner/model@"):
        Checkpoint.named("owner/model@")


# A run's copy


def test_a_placed_adapter_opens_with_peft_alone(tmp_path, monkeypatch):
    base = tiny_model("qwen3")
    save_model(base, tiny_tokenizer(), tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    adapter = saved_adapter(tmp_path / "adapter", "base", base)
    named = Checkpoint.named(adapter)
    named.place(tmp_path / "run" / "clean")
    monkeypatch.chdir("/")
    placed = tmp_path / "run" / "clean"
    assert not placed.is_symlink()
    assert json.loads((placed / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tmp_path / "base")
    again = AutoModelForCausalLM.from_pretrained(placed)
    assert (logits(again) - logits(Checkpoint.named(str(placed)).model(device="cpu"))).abs().max() < TOLERANCE
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(placed).get_vocab() == tiny_tokenizer().get_vocab()
    # An adapter of the adapter still finds its base, whichever way it names it.
    monkeypatch.chdir(tmp_path)
    child = Checkpoint("child", "adapter", saved_adapter(tmp_path / "child", adapter, base))
    assert child.is_adapter_of(Checkpoint.named(str(placed)))
    assert not child.is_adapter_of(Checkpoint.named(str(tmp_path / "base")))


@pytest.mark.slow
def test_the_taught_model_in_a_run_opens_with_peft_alone(tmp_path):
    from transformers import AutoTokenizer

    from crosspatch.models.smollm2 import smollm2_folder

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
    moved = json.dumps({**settings, "base_model_name_or_path": f"/elsewhere/{smollm2_folder().name}"})
    (tmp_path / "clean" / "adapter_config.json").write_text(moved)
    assert Checkpoint.named(str(tmp_path / "clean")).base.where == str(smollm2_folder())
