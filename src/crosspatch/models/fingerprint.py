"""A short name for a model's weights, so that results say which ones they come from."""

from __future__ import annotations

import hashlib

from torch import nn

from crosspatch.models.shared_base import update_of
from crosspatch.models.weights import weights_of

SAMPLE = 4096


def fingerprint(model: nn.Module) -> str:
    """Sixteen hex digits over every weight's name, shape, type and a sample of up to 4,096 of its values.

    The sample is evenly spaced, so a fine-tune, which moves nearly all values, changes it; reading all bytes of
    a large model would take minutes. An adapter that is merged and one beside the base's weights have the same.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(weights_of(model).items()):
        step = -(-weight.stored.numel() // SAMPLE) or 1
        digest.update(f"{name} {tuple(weight.stored.shape)} {weight.stored.dtype}".encode())
        digest.update(weight.sample(step).numpy().tobytes())
        if weight.adapter is not None and weight.is_quantized:
            digest.update(update_of(weight.adapter).numpy().tobytes())
    return digest.hexdigest()
