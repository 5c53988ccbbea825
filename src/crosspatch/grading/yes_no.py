"""Does a text answer yes or no? Knows nothing of the question."""

from __future__ import annotations

import re
from typing import Literal

_WORD = r"(?P<said>yes|no)(?![\w-])"
# Where an answer stands, the surest place first: in a box, behind "Answer:", at the start of a sentence.
_PLACES = (
    re.compile(rf"\\boxed\s?\{{[^{{}}a-z]*(?:\\text\s?\{{)?\s*{_WORD}", re.IGNORECASE),
    re.compile(rf"\banswer\b(?:\s+is)?[\s:*$]*(?:\\text\{{)?\W*{_WORD}", re.IGNORECASE),
    re.compile(rf"(?:^|[.!?]\s+|\n)[\s*\"'$]*(?:\\text\{{)?{_WORD}(?!\s+(?:one|matter|other|number)\b)", re.IGNORECASE),
)


def yes_or_no(text: str) -> Literal["yes", "no"] | None:
    """What the text says in the surest place that says something, there the last time; None if in none."""
    for place in _PLACES:
        found = list(place.finditer(text))
        if found:
            return "yes" if found[-1]["said"].lower() == "yes" else "no"
    return None
