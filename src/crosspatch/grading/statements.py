r"""What a text says that is done to both sides of an equation, one statement after the other: "Subtract 5x - 11 from
both sides".

Reads the words, not what is written below them; knows nothing of problems, nor which operation is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from crosspatch.data.polynomial import Polynomial, divided, number, size
from crosspatch.data.problem import Operation

_READ = 20_000  # characters read, from the start
_VERBS = {
    "add": "add",
    "subtract": "subtract",
    "deduct": "subtract",
    "divid": "divide",
    "multipl": "multiply",
}
_MOVE = r"\b(?P<{0}>add|subtract|deduct)(?:s|ing|ed)?"
_SCALE = r"\b(?P<{0}>divid|multipl)(?:e|es|ing|ed|y|ies|ying|ied)"
_SIDES = r"(?:both(?: of)?(?: the)?|each|either|the two)(?: sides?)?(?: of (?:the|this|our) [a-z]+)?"
_STATEMENT = re.compile(
    rf"{_MOVE.format('move')}\s(?P<moved>[^\n.:;]{{1,60}}?)\s(?:from|to|on|of|with)\s{_SIDES}\b"
    rf"|{_MOVE.format('move_by')}\s{_SIDES}\s(?:by|with)\s(?=(?P<moved_by>[^\n:;]{{1,40}}))"
    rf"|{_SCALE.format('scale')}\s{_SIDES}\s(?:by|with)\s(?=(?P<scaled>[^\n:;]{{1,60}}))"
    rf"|{_SCALE.format('scale_by')}\s(?:by\s)?(?P<scaled_by>[^\n.:;]{{1,40}}?)\s(?:from|to|on)\s{_SIDES}\b",
    re.IGNORECASE,
)
_TERM = re.compile(
    r"\s*(?P<sign>[+-]?)\s*\(?\s*(?P<inner>-?)\s*"
    r"(?:\\frac\{(?P<over>-?\d{1,9})\}\{(?P<under>\d{1,9})\}|(?P<number>\d{1,9}(?:\.\d{1,9})?)(?:/(?P<by>\d{1,9}))?)?"
    r"\s*(?P<power>[a-z](?:\^\{?2\}?)?(?![a-z]))?\s*\)?"
)
_SPELLINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\[dt]frac", r"\\frac"),
        (r"\\text\{([^{}]{0,60})\}", r" \1 "),
        (r"\\\\(?![a-zA-Z])", "\n"),
        (r"\\(?:left|right|quad)(?![a-zA-Z])|\\[,;!:()\[\]]|\\(?![a-zA-Z])", " "),
        (r"(?<=[\d)}]) ?\* ?(?=[\d(\\-])", r" \\times "),
        (r"[$`*&]", " "),
        (r"[−–]", "-"),
        (r"²", "^2"),
        (r"[^\S\n]+", " "),
    ]
]


def statements(tidy: str) -> Iterator[Statement]:
    """All statements of a text in one spelling (`tidied`), in order."""
    for match in _STATEMENT.finditer(tidy):
        groups: Sequence[str] = [match[name] for name in match.re.groupindex if match[name]]
        verb, operand = groups
        if statement := Statement.of(_VERBS[verb.lower()], operand, match.start(), match.end()):
            yield statement


@dataclass(frozen=True)
class Statement:
    """`verb` is subtract (of a signed polynomial) or divide (by a signed number); `start` and `end` are its place."""

    verb: str
    operand: Polynomial
    unknown: str
    start: int = 0
    end: int = 0

    @classmethod
    def of(cls, verb: str, operand: str, start: int = 0, end: int = 0) -> Statement | None:
        """None where the operand is no polynomial or, of a division, no number."""
        read = polynomial_in(operand)
        if read is None:
            return None
        value, unknown = read
        if verb in ("add", "subtract"):
            return cls("subtract", -value if verb == "add" else value, unknown, start, end)
        if not value.constant or value.linear or value.square:
            return None
        by = value if verb == "divide" else Polynomial(constant=divided(1, value.constant))
        return cls("divide", by, "", start, end)

    @property
    def key(self) -> tuple[str, Polynomial]:
        """Equal for statements that do the same."""
        return self.verb, self.operand

    @property
    def operation(self) -> Operation:
        """In one spelling: adding -5x is subtracting 5x, multiplying by 1/k is dividing by k."""
        if self.verb == "subtract":
            adds = self.operand.leading < 0
            return Operation(
                "add" if adds else "subtract", (-self.operand if adds else self.operand).latex(self.unknown)
            )
        by = self.operand.constant
        multiplies = by.denominator > 1 and size(by) < 1
        return Operation("multiply", number(divided(1, by))) if multiplies else Operation("divide", number(by))


def polynomial_in(text: str) -> tuple[Polynomial, str] | None:
    """The polynomial at the first digit, sign or lone letter, with its unknown ("" for a number)."""
    text = re.split(r"\s(?:to|and|so|then|giving|we)\b", text)[0]
    # Words before it ("the constant 5") are passed over; "of x" in "the coefficient of x, 8" too.
    text = re.sub(r"\bof \\?\(?[a-z]\b\)?,?|\b[a-zA-Z]{2,}\b(?<!\\frac)|\ba\b(?= [a-z\d])", " ", text)
    start = re.search(r"[-+(]?\s*(?:\d|\\frac|\b[a-z]\b)", text)
    if not start:
        return None
    position, total, unknown, first = start.start(), Polynomial(), "", True
    while match := _TERM.match(text, position):
        if match["number"] is None and match["over"] is None and match["power"] is None:
            break
        if not first and not match["sign"]:
            break
        size = Fraction(match["over"] or match["number"] or 1)
        divisor = int(match["under"] or match["by"] or 1)
        if not divisor:
            return None
        size *= Fraction(-1 if (match["sign"] == "-") != (match["inner"] == "-") else 1, divisor)
        power = match["power"] or ""
        if power and unknown not in ("", power[0]):
            return None
        unknown = power[:1] or unknown
        total += Polynomial(*(size if rank == place else Fraction(0) for rank, place in _places(power)))
        position, first = match.end(), False
    return None if first else (total, unknown)


def _places(power: str) -> list[tuple[int, int]]:
    place = 2 if not power else 1 if len(power) == 1 else 0
    return [(rank, place) for rank in range(3)]


def tidied(text: str) -> str:
    """The text in one spelling: `\\frac`, `-`, `x^2`, without delimiters and emphasis."""
    text = text[:_READ]
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return text
