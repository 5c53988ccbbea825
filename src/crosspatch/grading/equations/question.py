"""The equation that a question asks to solve.

A question is taken for such a one only if it holds a single equation that can be read, and asks for nothing but its
unknown: not for a sum of its roots, the positive one, or another letter. Knows nothing of answers.
"""

from __future__ import annotations

import re

from crosspatch.grading.equations.equation import Equation
from crosspatch.grading.equations.expression import Unreadable
from crosspatch.grading.equations.reading import plain_signs, tokens

_LONGEST = 2_000  # characters of a question in which an equation is looked for

# Words that ask for something else than the unknown, or say mathematics that signs do not.
_ASKS_ELSE = re.compile(
    r"\b(?:how many|number of|sum|products?|difference|discriminant|nature|vertex|slope|intercept|axis|derivative|"
    r"integral|limit|area|perimeter|average|coefficient|inequality|log|ln|"
    r"larger|largest|smaller|smallest|greater|greatest|least|lesser|maximum|minimum|positive|negative|nonnegative|"
    r"half|twice|double|triple|thrice|plus|minus|times|divided|multiplied|less|more than|squared|cubed|percent|"
    r"mod|modulo|cubes?|square of|ratio|remainder|percentage|total|"
    r"first step|next step|which step|true or false|rewrite|simplify|expand|inverse|reciprocal|opposite|"
    r"absolute|round|rounded|nearest|decimals?|approximately|estimate)\b|%|\|",
    re.IGNORECASE,
)
_COMPARISON = re.compile(r"[<>≤≥≠≈]|!=|==|:=|\\(?:l|g)(?:e|t|eq|eqslant)(?![a-zA-Z])|\\n(?:e|eq)(?![a-zA-Z])|\\approx")
# Where mathematics ends and words begin.
_BREAK = re.compile(
    r"(?P<word>(?<![\\a-zA-Z])(?!sqrt)[^\W\d_]{2,}(?:['’][^\W\d_]+)?)|\\text\s?\{[^{}]*\}|\\[()\[\]]|"
    r"[:;?!$\"“”\n`|]|[.,](?=\s|$)|\*\*(?!\d)"
)
_LABEL = re.compile(r"\A\s*(?:\(\w{1,3}\)|\w{1,3}[.)])\s+")  # "3) 5x = 95"
_BEFORE_UNKNOWN = frozenset({"for", "find", "of", "is", "determine"})


def find_equation(question: str) -> Equation | None:
    """The equation that a question asks to solve, or None where it asks anything else or it cannot be read."""
    if len(question) > _LONGEST or _COMPARISON.search(question):
        return None
    question = _LABEL.sub("", plain_signs(question), count=1)
    question = re.sub(r"([^\W\d_])\s*=\s*\?", r"\1?", question)  # "what is x = ?"
    left, _, right = question.partition("=")
    start, end = _start(left), _end(right)
    if "=" in right or start is None or end is None:
        return None
    try:
        return _asked(left[start:].strip(), right[:end].strip(" .,"), f"{left[:start]} ; {right[end:]}")
    except Unreadable:
        return None


def _asked(left: str, right: str, words: str) -> Equation | None:
    """The equation of two sides, if its unknown is what the words round it ask for; raises Unreadable."""
    letters = [token for token in tokens(left) + tokens(right) if len(token) == 1 and token.isalpha()]
    unknown = letters[0] if letters else ""
    if not unknown or unknown == "π" or set(letters) != {unknown} or _asks_else(words, unknown):
        return None
    if any(
        side == unknown and re.fullmatch(r"-?\s*[0-9.,/]+", other) for side, other in ((left, right), (right, left))
    ):
        return None  # x = 3 asks nothing
    if re.search(r"[±∓]|\\[pm][mp](?![a-zA-Z])", left + right):
        return None  # that is an answer
    return Equation.of(left, right, unknown)


def _start(left: str) -> int | None:
    """Where the left side begins; None where mathematics and words cannot be told apart."""
    breaks = list(_BREAK.finditer(left))
    start = breaks[-1].end() if breaks else 0
    side = left[start:]
    glued = not side[:1].isspace() or re.search(r"[\d)}]$", left[: breaks[-1].start()] if breaks else "")
    if breaks and breaks[-1]["word"] and glued:
        return None
    if re.match(r"\s*(?:[+*/^±)\]}]|-\s)", side):
        return None  # the words belong to the equation, as in "five + 3x = 20"
    named = re.match(r"\s*([^\W\d_])\s+(?=[\d(\\-]|\1(?!\w))", side)
    if breaks and breaks[-1].group().lower() in _BEFORE_UNKNOWN and named:
        # "Solve for x 5x = 95"; "for x -3x = 9" may be read in two ways.
        return None if side[named.end()] == "-" else start + named.end()
    return start


def _end(right: str) -> int | None:
    """Where the right side ends."""
    end = _BREAK.search(right)
    if end is None:
        return len(right)
    side = right[: end.start()]
    glued = end["word"] and not side[-1:].isspace()
    article = end["word"] and re.search(r"[\d)}]\s+[aI]\s*$", side)  # "= 11 a number": is the unknown called a?
    return None if glued or article or re.search(r"[-+*/^±×·(]\s*$", side) else end.start()


def _asks_else(rest: str, unknown: str) -> bool:
    """Whether the words round an equation ask for another thing than its unknown."""
    x = re.escape(unknown)
    if _ASKS_ELSE.search(rest) or re.search(
        rf"\d\s?{x}(?![a-zA-Z])|(?<![a-zA-Z]){x}\s*(?:[\^*/]|[-+−]\s*(?:\d|{x}\b|\()|\(\d)|\d\s*[-+*/]\s*{x}(?![a-zA-Z])",
        rest,
    ):
        return True
    lone = set(re.findall(r"(?<![\w'’\\])[^\W\d_](?![\w'’])", re.sub(r"\\[a-zA-Z]+", " ", rest)))
    return bool(lone - {unknown, "a", "A", "I", "Q"})
