"""The norm before the unembedding, over all architectures."""

from __future__ import annotations

import pytest
import torch

from architectures import ARCHITECTURES, tiny_architecture
from crosspatch.errors import UsageError
from crosspatch.models.final_norm import final_norm
from crosspatch.models.hooks import reading
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from engines import hooks_and_forwards

TOKENS = torch.tensor([[5, 17, 301, 44, 9, 120]])


@torch.inference_mode()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_norm_and_unembedding_of_the_last_stream_are_the_models_logits(name):
    model = tiny_architecture(name)
    with reading(model, [Site(3)]) as read:
        logits = model(TOKENS, use_cache=False).logits[0]
    own = unembed(model, final_norm(model)(read[Site(3)])[0])
    torch.testing.assert_close(own, logits, atol=1e-5, rtol=0)
    without = unembed(model, read[Site(3)][0])
    assert (without - logits).abs().max() > 0.01
    assert hooks_and_forwards(model) == 0


def test_a_model_without_one_is_refused():
    model = tiny_architecture("llama")
    # Something more is done after the norm, so that no module puts out what the unembedding reads.
    model.model.register_forward_hook(lambda _, __, output: (2 * output[0],))
    with pytest.raises(UsageError, match="LlamaForCausalLM has 0 modules between its last block and its unembedding"):
        final_norm(model)
