"""Which questions may be taught and which are kept for experiments on the taught model.

A division by the question itself, not by a list: it holds for every seed of either side, and on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable


def may_be_taught(key: Hashable) -> bool:
    """Three questions in four, by a hash of what makes a question the same (`Exercise.key`)."""
    return hashlib.blake2b(repr(key).encode(), digest_size=1).digest()[0] % 4 != 0
