r"""Finds equations in a text: the equation that a question asks to solve, and the equations on separate lines.

A question asks for an equation's solution if it has exactly one readable equation, and asks only for the equation's
unknown: not for a sum of its roots, the positive one, or another letter. In a worked solution, separate equations are
displayed (`$$…$$`, `\[…\]`, `align`) or on their own line; other equations are among words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from crosspatch.data.polynomial import Polynomial
from crosspatch.grading.equation import Equation
from crosspatch.grading.expression import Unreadable
from crosspatch.grading.maths_text import typed
from crosspatch.grading.reading import readings, tokens

_LONGEST_QUESTION = 2_000  # only this many characters of a question are searched for an equation

# Words that ask for something other than the unknown, or state mathematics in words.
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
# The boundary between mathematics and words.
_WORDS = re.compile(
    r"(?P<word>(?<![\\a-zA-Z])(?!sqrt)[^\W\d_]{2,}(?:['’][^\W\d_]+)?)|\\text\s?\{[^{}]*\}|\\[()\[\]]|"
    r"[:;?!$\"“”\n`|]|[.,](?=\s|$)|\*\*(?!\d)"
)
_LABEL = re.compile(r"\A\s*(?:\(\w{1,3}\)|\w{1,3}[.)])\s+")  # "3) 5x = 95"
_BEFORE_UNKNOWN = frozenset({"for", "find", "of", "is", "determine"})


def find_equation(question: str) -> Equation | None:
    """Find the equation that a question asks to solve; None if it asks for something else or cannot be read."""
    if len(question) > _LONGEST_QUESTION or _COMPARISON.search(question):
        return None
    question = _LABEL.sub("", typed(question), count=1)
    question = re.sub(r"([^\W\d_])\s*=\s*\?", r"\1?", question)  # "what is x = ?"
    left, _, right = question.partition("=")
    start, end = _left_start(left), _right_end(right)
    if "=" in right or start is None or end is None:
        return None
    try:
        return _asked(left[start:].strip(), right[:end].strip(" .,"), f"{left[:start]} ; {right[end:]}")
    except Unreadable:
        return None


def _asked(left: str, right: str, words: str) -> Equation | None:
    """Make the equation of two sides, if the words around it ask for its unknown; raises Unreadable."""
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


def _left_start(left: str) -> int | None:
    """Find the beginning of the left side; None if mathematics and words cannot be separated."""
    breaks = list(_WORDS.finditer(left))
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


def _right_end(right: str) -> int | None:
    """Find the end of the right side."""
    end = _WORDS.search(right)
    if end is None:
        return len(right)
    side = right[: end.start()]
    glued = end["word"] and not side[-1:].isspace()
    article = end["word"] and re.search(r"[\d)}]\s+[aI]\s*$", side)  # "= 11 a number": is the unknown called a?
    return None if glued or article or re.search(r"[-+*/^±×·(]\s*$", side) else end.start()


def _asks_else(rest: str, unknown: str) -> bool:
    """Whether the words around an equation ask for something other than its unknown."""
    x = re.escape(unknown)
    if _ASKS_ELSE.search(rest) or re.search(
        rf"\d\s?{x}(?![a-zA-Z])|(?<![a-zA-Z]){x}\s*(?:[\^*/]|[-+−]\s*(?:\d|{x}\b|\()|\(\d)|\d\s*[-+*/]\s*{x}(?![a-zA-Z])",
        rest,
    ):
        return True
    lone = set(re.findall(r"(?<![\w'’\\])[^\W\d_](?![\w'’])", re.sub(r"\\[a-zA-Z]+", " ", rest)))
    return bool(lone - {unknown, "a", "A", "I", "Q"})


_LONGEST_LINE = 300  # the maximum number of characters of an equation line

_CUT = re.compile(
    r"(?P<dollars>\$\$)|(?P<end>\\\\(?![a-zA-Z]{2})(?:\[[^\]\n]{0,10}\])?|\n)|(?P<open>\\\[)|(?P<close>\\\])"
    r"|\\(?P<edge>begin|end)\s?\{(?:equation|align|aligned|alignat|gather|gathered|split|eqnarray|multline)\*?\}"
)
_MARKUP = re.compile(r"\$|\\[()]|\*\*|__|`|&|\\(?:tag|label)\s?\{[^{}]*\}|\\(?:therefore|displaystyle)(?![a-zA-Z])|∴")
_BULLET = re.compile(r"\A\s*(?:[>#•]+|[*](?=\s)|\(?\d{1,2}[.)](?=\s))\s*")
_DASH = re.compile(r"\A\s*[-−–](?=\s)")
_BOX = re.compile(r"\\f?boxed\s?\{(.*)\}", re.DOTALL)
_THEN = re.compile(
    r"\\(?:Rightarrow|Longrightarrow|implies|iff|Leftrightarrow|to|rightarrow)(?![a-zA-Z])|⇒|⟹|→|⇔|[-=]>"
)
_AMONG_WORDS = re.compile(
    r"(?<![\\a-zA-Z])[a-zA-Z]{2,}|[:;?!#|\n<>≤≥]|[.,](?=\s|$)|[⇒→∴≈]"
    r"|\\(?:Rightarrow|implies|to|rightarrow|therefore|qquad|approx|[lg]eq?|neq?)(?![a-zA-Z])"
)
_LETTER = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])")
_NEARLY = re.compile(r"\\approx|\\simeq|≈")
_NO_WORDS = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s?\{\s*(?:or|and)\s*\}|\\[a-zA-Z]+|\b(?:or|and|sqrt)\b")


def equation_lines(text: str) -> Iterator[str]:
    """Yield each separate equation in order, without delimiters; skip prose and formulae without =."""
    for line, displayed in _lines(text):
        if len(line) > _LONGEST_LINE:
            if displayed and "=" in line:
                yield line
            continue
        plain = _BOX.sub(r"\1", _MARKUP.sub(" ", line))
        if not displayed:
            # A dash may be a bullet or a minus, so it is replaced by a sign that is neither.
            plain = _DASH.sub("•", _BULLET.sub("", plain, count=1))
            if re.search(r"[^\W\d_]{2,}", _NO_WORDS.sub(" ", typed(plain))):
                continue
        for part in _THEN.split(plain):
            equation = _NEARLY.split(part)[0].strip(" \t\r.,;:")
            if "=" in equation:
                yield equation


@dataclass(frozen=True)
class StatedEquation:
    """Both sides of an equation in one unknown, and its position in the text."""

    left: Polynomial
    right: Polynomial
    unknown: str
    start: int


def equations_among_words(text: str) -> list[StatedEquation]:
    """Return all linear and quadratic equations in one unknown of a text in one spelling; `x = 15/5 = 3` gives two."""
    found, start = [], 0
    for match in [*_AMONG_WORDS.finditer(text), None]:
        formula = text[start : match.start() if match else len(text)]
        letters = set(_LETTER.findall(formula))
        if "=" in formula and len(formula) <= _LONGEST_LINE and len(letters) == 1:
            unknown = letters.pop()
            sides = [_polynomial(side, unknown) for side in formula.split("=")]
            found += [
                StatedEquation(a, b, unknown, start) for a, b in pairwise(sides) if a is not None and b is not None
            ]
        start = match.end() if match else len(text)
    return found


def _polynomial(side: str, unknown: str) -> Polynomial | None:
    try:
        (read,) = readings(side.strip(), unknown)
    except ValueError:  # unreadable, or a ± with two readings
        return None
    return read.polynomial


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield lines, and whether each is displayed; a line that begins with = gets the left side of the line before."""
    start, head = 0, ""
    dollars = bracket = False
    environments = 0
    for match in [*_CUT.finditer(text), None]:
        line = text[start : match.start() if match else len(text)]
        displayed = dollars or bracket or environments > 0
        if line.strip():
            if displayed and len(head) < _LONGEST_LINE and re.match(r"[\s&]*=", line):
                line = f"{head} {line}"
            head = line.partition("=")[0] if displayed else ""
            yield line, displayed
        if match is None:
            return
        start = match.end()
        if match["dollars"]:
            dollars = not dollars
        elif match["open"] or match["close"]:
            bracket = match["open"] is not None
        elif match["edge"]:
            environments = max(0, environments + (1 if match["edge"] == "begin" else -1))
