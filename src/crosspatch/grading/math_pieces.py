"""Finds the mathematical pieces of a text, and whether the words around a piece assert it.

Works on texts in one spelling (`maths_text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from crosspatch.grading.maths_text import without_commands

_PIECES = 40  # the maximum number of pieces to try, from the end
_WORDS = 12  # how many words before a piece are examined; half as many after it

# Words before a piece that is only tried or ruled out, and words after a piece that is ruled out.
_SUPPOSED = re.compile(r"\b(?:try(?:ing)?|let(?:ting)?|let's say|suppose|assume|assuming|guess)$", re.IGNORECASE)
_RULED_OUT = re.compile(
    r"\b(?:not|reject|rejecting|discard|discarding|exclude|excluding|ignore|ignoring|except)$", re.IGNORECASE
)
_WHICH_IS_OUT = re.compile(
    r"(?:is|are|was|would be) (?:not\b|(?:an )?(?:extraneous|impossible|invalid|rejected))"
    r"|(?:does|do|did|can|could|must|will)(?: not|n't)\b|cannot\b|isn't\b|fails\b|must be (?:rejected|discarded)",
    re.IGNORECASE,
)
# Words before a piece that is not the answer: "greater than 7", "of radius 4", "when x = 3".
_SPOKEN_OF = re.compile(
    r"\b(?:tends|goes|close) to$|\bfrom(?:.{1,40}\bto)?$|\b(?:than|with|using|approaches|approaching|radius|length|"
    r"width|height|side|edge|symbol|(?<!answer )(?<!result )(?<!value )being|(?<!given )by)$",
    re.IGNORECASE,
)
_OF = re.compile(r"(?<!consist )(?<!consists )\bof$", re.IGNORECASE)
_NAMED = re.compile(r"\w'*(?:\(\w\))?\s?=")
_CONDITION = re.compile(r"\b(?:if|when|where|for|at|say|put|plug(?:ging)?(?: in)?|substitut(?:e|ing))$", re.IGNORECASE)
# "has an area of 36" asserts a value; "rolling a sum of 7" does not.
_OF_ITS_OWN = re.compile(
    r"\b(?:is|are|was|has|have|had|gives?|giving|gets?|makes?|making|for|to|yields?) an? (?:[a-z-]+ ){1,3}of$",
    re.IGNORECASE,
)

_REMARK = re.compile(r"\([a-zA-Z]{2,} [^()]*\)\.?")


@dataclass(frozen=True)
class Piece:
    """A piece, and the words of its sentence before and after it."""

    text: str
    before: str = ""
    behind: str = ""

    @property
    def supposed(self) -> bool:
        """Whether the sentence only tries the piece, as in "try x = 3"."""
        return _SUPPOSED.search(self.before) is not None

    @property
    def ruled_out(self) -> bool:
        """Whether the sentence negates the piece."""
        return bool(_RULED_OUT.search(self.before) or _WHICH_IS_OUT.match(self.behind))

    @property
    def claimed(self) -> bool:
        """Whether the sentence asserts the piece, judging by the words around it."""
        if self.supposed or self.ruled_out or ("=" in self.text and _CONDITION.search(self.before)):
            return False
        if _OF.search(self.before) and not _OF_ITS_OWN.search(self.before):
            # "15% of 80 = 12" is a claim, "the derivative of f(x) = 3x" is not.
            return "=" in self.text and not _NAMED.match(self.text)
        return _SPOKEN_OF.search(self.before) is None


def pieces_from_end(tidy: str) -> Iterator[Piece]:
    """Yield the last pieces, the very last one first; lines that are remarks in brackets are skipped."""
    lines = (reversed(list(pieces(line))) for line in reversed(tidy.split("\n")) if not _REMARK.fullmatch(line.strip()))
    return islice((piece for line in lines for piece in line), _PIECES)


def pieces(text: str) -> Iterator[Piece]:
    """Yield the longest pieces between words of prose, ends of sentences and ends of lines."""
    for line in text.split("\n"):
        tokens = line.split()
        start = sentence = 0
        for i, token in enumerate(tokens):
            prose = is_prose(token, tokens[i + 1] if i + 1 < len(tokens) else "")
            ends = token[-1] in ".;:?!" and not token.endswith(r"\;")
            if prose or ends or i + 1 == len(tokens):
                yield from _finished(tokens, sentence, start, i if prose else i + 1)
                start = i + 1
            if ends:
                sentence = i + 1


def is_prose(token: str, following: str) -> bool:
    """Whether a token is a word; `following`, the next token, distinguishes the article `a` from a variable."""
    bare = token.strip(".,;:?!()")
    if bare in ("or", "and", "dx", "dy") or re.fullmatch(r"cm|mm|km", bare):
        return False
    if bare in ("a", "A", "I"):
        return not re.match(r"[=+*/^<>≤≥≠-]|\\(?:approx|in|[lg]eq?|neq?)", following)
    return re.search(r"[^\W\d_]{2,}", re.sub(r"\b[a-z]{2}(?=\^)", "", without_commands(token))) is not None


def _finished(tokens: list[str], sentence: int, start: int, end: int) -> Iterator[Piece]:
    """Yield the piece made of these tokens, if it is mathematical, with the words of its sentence."""
    behind = " ".join(tokens[end : end + _WORDS // 2])
    while start < end and tokens[end - 1] in ("or", "and"):
        end -= 1
    while start < end and tokens[start].rstrip(",") in ("or", "and"):
        start += 1
    text = " ".join(tokens[start:end]).strip(" .,;:?!\"'")
    if re.search(r"[a-zA-Z\d]", text):
        before = " ".join(tokens[max(sentence, start - _WORDS) : start]).rstrip(" ,:(")
        yield Piece(text, before, "" if tokens[end - 1][-1] in ".;:?!" else behind)
