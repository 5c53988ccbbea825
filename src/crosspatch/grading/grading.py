"""Grades a text's final answer: parses the answer and compares it with the gold answer; nothing is guessed.

`unparsed` means that no answer could be read; `incorrect` means that an answer was read and differs from the gold.
`final_answer` finds a mathematical answer; `math_answer` and `math_expression` compare two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from crosspatch.grading.final_answer import find_answer
from crosspatch.grading.math_answer import UNITS, read_gold, same_answer
from crosspatch.grading.maths_text import one_spelling, without_commands

Verdict = Literal["correct", "incorrect", "unparsed"]
Kind = Literal["math", "text", "yes_no"]

_YES_OR_NO = r"(?P<said>yes|no)(?![\w-])"
# The positions of an answer, most reliable first: in a box, after "Answer:", at the start of a sentence.
_PLACES = (
    re.compile(rf"\\boxed\s?\{{[^{{}}a-z]*(?:\\text\s?\{{)?\s*{_YES_OR_NO}", re.IGNORECASE),
    re.compile(rf"\banswer\b(?:\s+is)?[\s:*$]*(?:\\text\{{)?\W*{_YES_OR_NO}", re.IGNORECASE),
    re.compile(
        rf"(?:^|[.!?]\s+|\n)[\s*\"'$]*(?:\\text\{{)?{_YES_OR_NO}(?!\s+(?:one|matter|other|number)\b)", re.IGNORECASE
    ),
)


@dataclass(frozen=True)
class Grade:
    """A verdict, and the final answer as it occurs in the text: None if none was found."""

    verdict: Verdict
    extracted: str | None


def grade(text: str, gold: str, aliases: Sequence[str] = (), kind: Kind | None = None) -> Grade:
    """Grade a text against the gold or any alias; no text makes this function raise.

    `kind` is the kind of the gold: mathematics (the text's final answer is parsed and compared), words (they must
    occur in the text as whole words), or yes or no; None infers the kind from the gold. If a mathematical gold cannot
    be parsed, every text is unparsed.
    """
    match kind or kind_of(gold):
        case "text":
            return _grade_words(text, (gold, *aliases))
        case "yes_no":
            said_so = _yes_or_no(text)
            if said_so is None:
                return Grade("unparsed", None)
            return Grade("correct" if said_so == _yes_or_no(gold) else "incorrect", said_so)
    golds = [answer for name in (gold, *aliases) if (answer := read_gold(name))]
    if not golds:
        return Grade("unparsed", None)
    found = find_answer(text, golds[0])
    if found is None:
        return Grade("unparsed", None)
    said = found.answer
    right = said is not None and any(same_answer(one, said) for one in golds)
    return Grade("correct" if right else "incorrect", found.text)


def grade_explanation(text: str, key_points: Sequence[Sequence[str]]) -> Grade:
    """Grade an explanation: correct if it contains more than half of its key points, incorrect otherwise.

    A point counts if any of its wordings occurs as whole words, ignoring case, accents and punctuation; `extracted`
    lists the wordings found. A text without a word is unparsed.
    """
    said = [next((w for w in wordings if _says(text, w)), None) for wordings in key_points]
    found = [wording for wording in said if wording is not None]
    if not _fold(text):
        return Grade("unparsed", None)
    return Grade("correct" if 2 * len(found) > len(key_points) else "incorrect", ", ".join(found) or None)


def kind_of(gold: str) -> Kind:
    """Return the kind text if the gold has a word of three or more letters that is no LaTeX command, function or unit.

    A gold of only yes or no has the kind yes_no.
    """
    if re.fullmatch(r"\W*(?:\\text\{)?\W*(?:yes|no)\W*", gold, re.IGNORECASE):
        return "yes_no"
    words = re.findall(r"[^\W\d_]{3,}", without_commands(one_spelling(gold)))
    return "text" if any(not re.fullmatch(rf"and|square|cubic|{UNITS}", w.lower()) for w in words) else "math"


def _grade_words(text: str, golds: Sequence[str]) -> Grade:
    for gold in golds:
        if _says(text, gold):
            return Grade("correct", gold)
    return Grade("incorrect" if _fold(text) else "unparsed", None)


def _says(text: str, wording: str) -> bool:
    folded = _fold(without_commands(wording))
    return bool(folded) and f" {folded} " in f" {_fold(text)} "


@lru_cache(maxsize=256)
def _fold(text: str) -> str:
    """Lowercase, remove accents and punctuation, and separate words by one space; 3.7 and 1,945 stay one word."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    return " ".join(re.findall(r"\d+(?:\.\d+)+|[^\W_]+", plain))


def _yes_or_no(text: str) -> Literal["yes", "no"] | None:
    """Return the last match in the most reliable position that has a match; None without a match."""
    for place in _PLACES:
        found = list(place.finditer(text))
        if found:
            return "yes" if found[-1]["said"].lower() == "yes" else "no"
    return None
