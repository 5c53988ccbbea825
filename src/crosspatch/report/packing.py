"""Data on its way into the page: JSON, compressed, in letters that mean nothing to a reader of HTML.

The page unpacks it where it is needed (`unpack` in templates/scripts/page.js). Knows nothing of what it carries.
"""

from __future__ import annotations

import base64
import json
import zlib


def packed(value: object) -> str:
    """A value of JSON as base64 of its deflated text: a-z, A-Z, 0-9, +, / and = alone.

    Raises ValueError for a number that JSON does not have (NaN, an infinity).
    """
    # Plain ASCII, so that half of a surrogate pair travels as its escape.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=list)
    return compressed(text.encode("ascii"))


def compressed(content: bytes) -> str:
    """Bytes deflated, as base64."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")
