"""Models that read images too: their text decoder is patched and trained. Models with several streams are refused."""

import copy
import warnings

import pytest
import torch
import transformers

from adapters import logits
from crosspatch.analysis.patch import patch
from crosspatch.errors import UsageError
from crosspatch.models.adapter import linear_layers, with_adapter
from crosspatch.models.blocks import decoder, name_of_blocks
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.saving import save_model
from crosspatch.models.shapes import Shape
from crosspatch.models.tiny import _SHAPE, tiny_tokenizer
from crosspatch.patching.sweep import choose_patches

TEXT = _SHAPE | {"vocab_size": 512, "initializer_range": 0.2}
TEXT |= {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
# As deep as the text decoder: the number of blocks alone does not identify them.
IMAGES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
IMAGES |= {"image_size": 28, "patch_size": 14}


def gemma3():
    tokens = {"image_token_index": 500, "boi_token_index": 501, "eoi_token_index": 502}
    text = {**TEXT, "sliding_window": 8}
    config = transformers.Gemma3Config(text_config=text, vision_config=IMAGES, mm_tokens_per_image=4, **tokens)
    return transformers.Gemma3ForConditionalGeneration(config)


def llava():
    images = {**IMAGES, "model_type": "clip_vision_model", "projection_dim": 16}
    text = {**TEXT, "model_type": "llama"}
    config = transformers.LlavaConfig(text_config=text, vision_config=images, image_token_index=500)
    return transformers.LlavaForConditionalGeneration(config)


def qwen2_5_vl():
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
    images = {"depth": 4, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 48}
    config = transformers.Qwen2_5_VLConfig(text_config={**TEXT, "rope_parameters": rope}, vision_config=images)
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def made(build, seed=0):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build().eval()


@pytest.mark.parametrize("build", [gemma3, llava, qwen2_5_vl])
def test_the_text_decoder_is_patched_as_the_published_algorithm_does_read_by_name_and_adapted(tmp_path, build):
    model = made(build)
    pair = ModelPair.of(model, made(build, seed=1), tiny_tokenizer())
    assert name_of_blocks(pair.clean).endswith("language_model.layers")
    patches = choose_patches(pair, "all", ["resid_post", "attn_out", "mlp_out"])
    fast, slow = (
        patch(pair, "Solve for x: 2x = 18", patches=patches, max_new_tokens=4, engine=engine)
        for engine in ("cached", "reference")
    )
    assert fast.generations.equals(slow.generations)
    assert (fast.scores["delta_patched"] - slow.scores["delta_patched"]).abs().max() < 1e-4
    assert "ok" in fast.scores["status"]

    save_model(model, tiny_tokenizer(), tmp_path / "model")
    again = Checkpoint.named(str(tmp_path / "model")).model(device="cpu")
    assert logits(again).equal(logits(model))
    shape = Shape.of(str(tmp_path / "model"))
    assert shape.linear_sides == sum(sum(layer.weight.shape) for layer in linear_layers(model).values())
    assert shape.config.num_hidden_layers == 4
    # Adapters are the language model's alone, though the image encoder has linear layers too.
    inside = set(decoder(model).modules())
    assert any(isinstance(m, torch.nn.Linear) and m not in inside for m in model.modules())
    trained = {name for name, weight in with_adapter(model, 2, 4, 0).named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 7 * 4
    assert all("language_model.layers" in name for name in trained)


def test_blocks_with_several_streams_are_refused():
    config = transformers.Gemma3nTextConfig(
        **{**TEXT, "vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 0},
        layer_types=["sliding_attention", "full_attention"] * 2,
        activation_sparsity_pattern=[0.0] * 4,
        laurel_rank=4,
        altup_num_inputs=4,
    )
    model = made(lambda: transformers.Gemma3nForCausalLM(config))
    pair = ModelPair.of(model, copy.deepcopy(model), tiny_tokenizer())
    for engine in ("cached", "reference"):
        with pytest.raises(UsageError, match=r"\A.*models with several streams cannot be patched.*\Z"):
            patch(pair, "2x = 18", layers=[1], max_new_tokens=2, engine=engine)
    assert not any(module._forward_hooks for module in model.model.layers.modules())
