"""An adapter on the clean model's own weights is the merged child, and its weights are there once."""

from __future__ import annotations

import json

import pytest
import torch

from adapters import saved_adapter, saved_base
from crosspatch.errors import UsageError
from crosspatch.models.components import final_norm, find_components
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_model
from crosspatch.models.weight_delta import weight_delta
from crosspatch.models.weights import fingerprint
from pairs import ARCHITECTURES

TOKENS = torch.arange(40)[None]
# Of the largest logit: x W + x A B sums in another order than x (W + A B), in float32.
TOLERANCE = 1e-5


def storages(model) -> set[int]:
    return {weight.data_ptr() for weight in model.parameters()}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pairs(request, tmp_path_factory) -> tuple[ModelPair, ModelPair]:
    """The same pair with the base kept once, and with the adapter merged into weights of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    base = saved_base(folder / "base", request.param)
    adapter = saved_adapter(folder / "adapter", base, tiny_model(request.param))
    shared, merged = (ModelPair.load(base, adapter, device="cpu", share_base=share) for share in (True, False))
    return shared, merged


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=TOKENS, use_cache=False).logits


def gap(one, other) -> float:
    """The largest difference between two models' logits, as a share of the largest logit."""
    a, b = logits(one), logits(other)
    return float((a - b).abs().max() / b.abs().max())


def test_it_is_the_merged_child(pairs):
    shared, merged = pairs
    assert gap(shared.corrupted, merged.corrupted) < TOLERANCE
    assert logits(shared.clean).equal(logits(merged.clean))
    # There is a child to speak of.
    assert gap(shared.corrupted, shared.clean) > 0.01


def test_the_weights_are_there_once(pairs):
    shared, merged = pairs
    assert storages(shared.clean) <= storages(shared.corrupted)
    more = sum(w.numel() for w in shared.corrupted.parameters()) - sum(w.numel() for w in shared.clean.parameters())
    assert 0 < more < 0.3 * sum(weight.numel() for weight in shared.clean.parameters())
    # A merged child shares nothing.
    assert not storages(merged.clean) & storages(merged.corrupted)


def test_modules_and_configuration_are_not_shared(pairs):
    shared, _ = pairs
    assert not {id(m) for m in shared.clean.modules()} & {id(m) for m in shared.corrupted.modules()}
    assert shared.clean.config is not shared.corrupted.config


def test_the_base_is_left_as_it_was(pairs):
    shared, merged = pairs
    assert not hasattr(shared.clean, "peft_config")
    assert [n for n, w in shared.clean.named_parameters() if w.requires_grad] == [
        n for n, w in merged.clean.named_parameters() if w.requires_grad
    ]


def test_the_fingerprint_is_that_of_the_merged_child(pairs):
    shared, merged = pairs
    assert fingerprint(shared.corrupted) == fingerprint(merged.corrupted)
    assert fingerprint(shared.clean) == fingerprint(merged.clean) != fingerprint(merged.corrupted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_fingerprint_in_half_precision(tmp_path, dtype):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"))
    shared, merged = (
        ModelPair.load(base, adapter, device="cpu", dtype=dtype, share_base=share) for share in (True, False)
    )
    assert fingerprint(shared.corrupted) == fingerprint(merged.corrupted)
    assert storages(shared.clean) <= storages(shared.corrupted)


def test_what_is_found_in_it_is_what_is_found_in_the_merged_child(pairs):
    shared, merged = pairs
    assert find_components(shared.corrupted) == find_components(merged.corrupted)
    assert type(final_norm(shared.corrupted)) is type(final_norm(merged.corrupted))


def test_weight_deltas_are_those_of_the_merged_child(pairs):
    shared, merged = (weight_delta(pair.clean, pair.corrupted, "corrupted") for pair in pairs)
    assert shared.equals(merged)
    assert shared["delta_norm"].max() > 0


def test_names_of_one_folder(tmp_path):
    """As in a run: the clean model is a link, the adapter names the folder itself."""
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"))
    (tmp_path / "clean").symlink_to(base, target_is_directory=True)
    pair = ModelPair.load(str(tmp_path / "clean"), adapter, device="cpu")
    assert storages(pair.clean) <= storages(pair.corrupted)
    # A folder with the same weights is another checkpoint.
    other = saved_base(tmp_path / "other")
    pair = ModelPair.load(other, adapter, device="cpu")
    assert not storages(pair.clean) & storages(pair.corrupted)


def test_an_adapter_of_an_adapter(tmp_path):
    """As a fine-tune of a taught model is: the clean model is merged, and shared then."""
    base = saved_base(tmp_path / "base")
    first = saved_adapter(tmp_path / "first", base, tiny_model("qwen3"))
    taught = Checkpoint.named(first).model(device="cpu")
    second = saved_adapter(tmp_path / "second", first, taught, size=0.2)
    shared, merged = (ModelPair.load(first, second, device="cpu", share_base=share) for share in (True, False))
    assert storages(shared.clean) <= storages(shared.corrupted)
    assert gap(shared.corrupted, merged.corrupted) < TOLERANCE
    assert gap(shared.corrupted, shared.clean) > 0.01


def test_a_clean_adapter_is_merged(tmp_path):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"))
    pair = ModelPair.load(adapter, base, device="cpu")
    assert not storages(pair.clean) & storages(pair.corrupted)
    assert logits(pair.clean).equal(logits(Checkpoint.named(adapter).model(device="cpu")))


def test_a_random_base_has_the_seed_of_the_pair(tmp_path):
    adapter = saved_adapter(tmp_path / "adapter", "random:qwen3", tiny_model("qwen3", seed=3))
    for share in (True, False):
        pair = ModelPair.load("random:qwen3", adapter, device="cpu", seed=3, share_base=share)
        assert gap(pair.corrupted, pair.clean) > 0.01
        expected = tiny_model("qwen3", 3)
        assert all(weight.equal(expected.get_parameter(name)) for name, weight in pair.clean.named_parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"bias": "lora_only"},
        {"init_lora_weights": "pissa"},
    ],
    ids="-".join,
)
@pytest.mark.filterwarnings("ignore:.*embedding.*", "ignore:.*tie_word_embeddings.*")
def test_other_adapters_are_merged(tmp_path, settings):
    """What is not a plain LoRA of linear layers in blocks is left to PEFT."""
    base = saved_base(tmp_path / "base")
    before = logits(Checkpoint.named(base).model(device="cpu"))
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"), **settings)
    pair = ModelPair.load(base, adapter, device="cpu")
    assert not storages(pair.clean) & storages(pair.corrupted)
    assert logits(pair.clean).equal(before)
    assert not hasattr(pair.corrupted, "peft_config")


@pytest.mark.parametrize(
    "settings", [{"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 1}}]
)
def test_scales_and_ranks_of_their_own(tmp_path, settings):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"), **settings)
    shared, merged = (ModelPair.load(base, adapter, device="cpu", share_base=share) for share in (True, False))
    assert storages(shared.clean) <= storages(shared.corrupted)
    assert gap(shared.corrupted, merged.corrupted) < TOLERANCE
    assert fingerprint(shared.corrupted) == fingerprint(merged.corrupted)


def test_an_adapter_that_lacks_a_weight_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"))
    weights = load_file(f"{adapter}/adapter_model.safetensors")
    lacking = next(iter(weights))
    save_file(
        {name: weight for name, weight in weights.items() if name != lacking}, f"{adapter}/adapter_model.safetensors"
    )
    with pytest.raises(UsageError, match="do not match") as error:
        ModelPair.load(base, adapter, device="cpu")
    assert "\n" not in str(error.value)


def test_an_adapter_of_itself_is_refused(tmp_path):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(tmp_path / "adapter", base, tiny_model("qwen3"))
    settings = tmp_path / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": adapter}))
    with pytest.raises(UsageError, match="leads back to itself"):
        ModelPair.load(base, adapter, device="cpu")
