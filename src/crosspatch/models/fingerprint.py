"""A short name for a model's weights, so that results say which ones they come from."""

from __future__ import annotations

import hashlib

from torch import nn

SAMPLE = 4096


def fingerprint(model: nn.Module) -> str:
    """Sixteen hex digits over every weight's name, shape, type and a sample of up to 4,096 of its values.

    The sample is evenly spaced, so a fine-tune, which moves nearly all values, changes it; reading all bytes of
    a large model would take minutes.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        sample = flat[:: -(-flat.numel() // SAMPLE) or 1].float().cpu().numpy()
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()
