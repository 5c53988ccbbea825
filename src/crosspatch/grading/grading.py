"""Grades a text's final answer: parses the answer and compares it with the gold answer; nothing is guessed.

`unparsed` means that no answer could be read; `incorrect` means that an answer was read and differs from the gold.
`final_answer` finds a mathematical answer, `math_answer` parses it, and `equality` compares it with the gold.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Literal

from crosspatch.grading.equality import compare, same_text
from crosspatch.grading.final_answer import boxed, find_answer, without_reasoning
from crosspatch.grading.math_answer import UNITS, read_gold, says_nothing, without_unit
from crosspatch.grading.spelling import HELD_SIGNS, one_spelling, without_commands

Verdict = Literal["correct", "incorrect", "unparsed"]
Kind = Literal["math", "choice", "text", "yes_no"]

_YES_OR_NO = r"(yes|no)(?![\w-])"
# The positions of an answer, most reliable first: in a box, after "Answer:", at the start of a sentence.
_PLACES = (
    re.compile(rf"(?i)\\boxed\s?\{{[^{{}}a-z]*(?:\\text\s?\{{)?\s*{_YES_OR_NO}"),
    re.compile(rf"(?i)\banswer\b(?:\s+is)?[\s:*$]*(?:\\text\{{)?\W*{_YES_OR_NO}"),
    re.compile(rf"(?i)(?:^|[.!?]\s+|\n)[\s*\"'$]*(?:\\text\{{)?{_YES_OR_NO}(?!\s+(?:one|matter|other|number)\b)"),
)
# A choice's letter at the beginning, alone or in front of the choice's text: (B) 12.
_CHOICE = re.compile(
    r"^[\s{\[]*(\([A-Ha-h]\)|\(?[A-HJ])(?![^\s})\].:,~])[\s})\]]*(?:[.:,~]|$|(?<=[)\]}])\s*\S|(?<=[)\]}]\s)\S)"
)
_LETTER = r"[\s{\[]*(\([A-Ha-h]\)|\(?[B-HJ]|\(?A(?! (?!because|since)[a-z]))(?!\w|['’]\w|\)? or \(?[A-J]\b)"
_ANSWERED = re.compile(r"(?i:\banswer)(?i:\s(?:is|seems to be|would be|must be))?[\s:]*(?i:option|choice)?" + _LETTER)
_CHOSEN = re.compile(r"(?i:\b(?:option|choice|choose|select|pick))(?i:\s(?:is|option))?[\s:]*" + _LETTER)


@dataclass(frozen=True)
class Grade:
    """A verdict, the final answer as it occurs in the text (None if none was found), and the rule that decided."""

    verdict: Verdict
    extracted: str | None
    rule: str


def grade(text: str, gold: str, aliases: Sequence[str] = (), kind: Kind | None = None) -> Grade:
    """Grade a text against the gold or any alias; no text makes this function raise.

    `kind` is the kind of the gold: mathematics (the text's final answer is parsed and compared), a choice's letter, yes
    or no, or words (they must occur as whole words, not behind `not`, in the box, on the line `Answer: …` or else
    anywhere in the text); None infers the kind from the gold. A gold may be a whole solution with a box. If a
    mathematical gold cannot be parsed, only the same text is correct, and every other text is unparsed.
    """
    text = without_reasoning(text)
    golds = [_own_answer(without_reasoning(name)) for name in (gold, *aliases)]
    match kind or kind_of(golds[0]):
        case "text":
            return _grade_words(_own_answer(text), golds)
        case "yes_no":
            if said_so := _yes_or_no(text):
                return Grade("correct" if said_so == _yes_or_no(golds[0]) else "incorrect", said_so, "yes or no")
            return Grade("unparsed", None, "no final answer found")
        case "choice" if letter := _letter(text):
            right = any(letter == _letter(name) for name in golds)
            return Grade("correct" if right else "incorrect", letter, "choice letter")
        case "choice" if boxed(text)[0] and re.fullmatch(r"\W*[A-HJ]\W*", golds[0]):
            return Grade("incorrect", boxed(text)[0], "choice letter")
    return _grade_math(text, golds)


def _grade_math(text: str, golds: Sequence[str]) -> Grade:
    answers = [answer for name in golds if (answer := read_gold(name))]
    found = find_answer(text, answers[0]) if answers else None
    if found is None:
        whole = boxed(text)[0] or text.strip()
        if any(same_text(name, whole) for name in golds):
            return Grade("correct", whole, "same text")
        return Grade("unparsed", None, "no final answer found" if answers else "the gold answer cannot be read")
    if found.answer is None:
        return Grade("incorrect", found.text, f"{found.where}: no mathematical answer")
    right, rule = max((compare(one, found.answer) for one in answers), key=itemgetter(0))
    return Grade("correct" if right else "incorrect", found.text.translate(HELD_SIGNS), f"{found.where}: {rule}")


def grade_explanation(text: str, key_points: Sequence[Sequence[str]]) -> Grade:
    """Grade an explanation: correct if it contains more than half of its key points, incorrect otherwise.

    A point counts if any of its wordings occurs as whole words, ignoring case, accents and punctuation; `extracted`
    lists the wordings found. A text without a word is unparsed.
    """
    if not _fold(text):
        return Grade("unparsed", None, "no final answer found")
    said = [[wording for wording in wordings if _says(text, wording)] for wordings in key_points]
    found = [wordings[0] for wordings in said if wordings]
    verdict: Verdict = "correct" if 2 * len(found) > len(key_points) else "incorrect"
    return Grade(verdict, ", ".join(found) or None, f"{len(found)} of {len(key_points)} key points")


def _own_answer(text: str) -> str:
    """Return the content of a text's box, or its last line `Answer: …`, or else the text."""
    stated = re.findall(r"(?im)(?:^|[.!?]\s)\W*(?:final )?answer\W*:[ *]*(.*\w.*)$", text)
    return boxed(text)[0] or (stated[-1] if stated else text)


def kind_of(gold: str) -> Kind:
    """Return the kind that a gold looks like.

    Text has a word of three or more letters that is no LaTeX command, function, name in front of `=` or unit behind a
    number.
    """
    if re.fullmatch(r"\W*(?:\\text\{)?\W*(?:yes|no)\W*", gold, re.IGNORECASE):
        return "yes_no"
    if _CHOICE.match(without_commands(gold)) and len(re.findall(r"\b[A-HJ]\b", gold)) == 1:
        return "choice"
    value = one_spelling(gold).rpartition("=")[2]
    if says_nothing(value) or re.search(r"\\frac|\^", value):
        return "math"
    words = re.findall(r"[^\W\d_]{3,}", without_commands(re.sub(r"_\{\w+\}", "", without_unit(value))))
    return "text" if any(not re.fullmatch(rf"and|square|cubic|{UNITS}", w.lower()) for w in words) else "math"


def _letter(text: str) -> str | None:
    """Return the letter of the choice that a text makes: in its box, as its stated answer, or in front of its text."""
    content, rest = map(without_commands, boxed(text))
    plain = re.sub(r"[*$]|\\[()\[\]]", "", rest)
    stated = _ANSWERED.findall(plain) or ([] if content else _CHOSEN.findall(plain))
    chosen = content or plain
    found = stated[-1:] or ([] if re.match(r"\W*[A-HJ]\W*,\W*[A-HJ]\b", chosen) else _CHOICE.findall(chosen))
    return found[0].strip("()").upper() if found else None


def _grade_words(text: str, golds: Sequence[str]) -> Grade:
    for gold in golds:
        if _says(text, gold) or same_text(text, gold):
            return Grade("correct", gold, "words")
    return Grade("incorrect", None, "words") if _fold(text) else Grade("unparsed", None, "no final answer found")


def _says(text: str, wording: str) -> bool:
    """Whether a wording occurs in a text other than behind `not`."""
    said, folded = f" {_fold(text)} ".replace(" ", "  "), f" {_fold(without_commands(wording))} ".replace(" ", "  ")
    return bool(folded.strip()) and said.count(folded) > said.count(f"  not{folded}")


@lru_cache(maxsize=256)
def _fold(text: str) -> str:
    """Lowercase, remove accents and punctuation, and separate words by one space; 3.7 and 1,945 stay one word."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    return " ".join(re.findall(r"\d+(?:\.\d+)+|[^\W_]+", plain))


def _yes_or_no(text: str) -> Literal["yes", "no"] | None:
    """Return the last match in the most reliable position that has a match; None without a match."""
    for place in _PLACES:
        if found := place.findall(text):
            return "yes" if found[-1].lower() == "yes" else "no"
    return None
