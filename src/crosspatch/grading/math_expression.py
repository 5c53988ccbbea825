"""Parses one mathematical value to a sympy object safely, and compares two by value.

math-verify is used to parse LaTeX. Long inputs and towers of powers are refused, so nothing can block. Numbers and
expressions are compared exactly, or to 1e-3 if a decimal stands for a value that has no short decimal. math-verify's
`verify` is used only for intervals and inequalities, since it rounds absolutely and may simplify expressions for
minutes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import math_verify
import math_verify.grader
import math_verify.parser
import sympy

from crosspatch.grading.maths_text import without_commands

# math-verify's own timeouts need signals, so they fail outside of the main thread; it warns if they are off.
# They are not needed: `_harmless` limits the input.
math_verify.parser.TIMEOUT_WARNING_SHOWN = math_verify.grader.TIMEOUT_WARNING_SHOWN = True
# Its units are off too: it parses the t of `5t^{2} - t` as tonnes. `math_answer` removes units before.
_DEFAULT = math_verify.LatexExtractionConfig()
_LATEX = [replace(_DEFAULT, normalization_config=replace(_DEFAULT.normalization_config, units=False))]

TOLERANCE = 1e-3


@lru_cache(maxsize=1024)
def parse(latex: str) -> Any:
    """Parse one value to a sympy object; None if it cannot be parsed safely.

    Plain numbers do not use math-verify, which takes 20 ms.
    """
    if match := re.fullmatch(r"(-?)\s?(\d{1,30})(\.\d{1,30})?(?:\s?/\s?(\d{1,30}))?", latex):
        sign, whole, decimals, divisor = match.groups()
        if divisor and (decimals or not int(divisor)):
            return None
        if decimals:
            return sympy.Float(f"{sign}{whole}{decimals}", 30)
        return sympy.Rational(int(f"{sign}{whole}"), int(divisor or 1))
    if not _harmless(latex):
        return None
    try:
        found = math_verify.parse(f"${latex}$", _LATEX, fallback_mode="no_fallback", parsing_timeout=None)
    except Exception:  # a third-party parser on arbitrary text: any exception means "not readable"
        return None
    return found[0] if found and isinstance(found[0], sympy.Basic | sympy.MatrixBase) else None


def _harmless(latex: str) -> bool:
    """Whether this is one value, and safe to evaluate."""
    if not latex or len(latex) > 200 or not re.search(r"[a-zA-Z\d]", latex):
        return False
    if re.search(r"[^\W\d_]{3}", without_commands(latex)):
        return False
    if re.search(r"\\(?:int|sum|prod|lim|binom)(?![a-zA-Z])|\d\d!|!!|[)}]\s*!|\d{31}|\d\s+\d|\{[^{}]*$", latex):
        return False
    # Each round bracket takes math-verify's parser 60 ms; a power of a power of a power may be huge.
    if any(latex.count(bracket) > 12 for bracket in "({[^"):
        return False
    if len(re.findall(r"[)}]\s*\^", latex)) > 2 or re.search(r"\^\s*(?:\{[^{}]*\}|\w)\s*\^", latex):
        return False
    return all(_small_exponent(latex[match.end() :]) for match in re.finditer(r"\^\s*", latex))


def _small_exponent(rest: str) -> bool:
    exponent, depth = rest, 0
    for i, char in enumerate(rest):
        depth += (char == "{") - (char == "}")
        if depth <= 0:
            exponent = rest[: i + 1]
            break
    # An exponent may contain one square or cube of a letter, as in e^{-x^2}, but no power of a number.
    inner = re.sub(r"[a-zA-Z]\^\{?[23]\}?", "", exponent, count=1)
    return "^" not in inner and len(re.findall(r"\d", inner)) <= 3


def same_value(gold: Any, said: Any) -> bool:
    """Whether two values from `parse` are equal; values that cannot be compared count as different."""
    if isinstance(gold, sympy.Expr) and isinstance(said, sympy.Expr):
        return _close(gold, said)
    try:
        return bool(math_verify.verify(gold, said, timeout_seconds=None))
    except Exception:  # any exception means "not comparable", so not equal
        return False


def _close(gold: sympy.Expr, said: sympy.Expr) -> bool:
    """Whether the values are equal: at three points if there are symbols."""
    turns = range(3 if gold.free_symbols or said.free_symbols else 1)
    return all(_close_at(gold, said, turn) for turn in turns)


def _close_at(gold: sympy.Expr, said: sympy.Expr, turn: int) -> bool:
    a, b = (_number(expr, turn) for expr in (gold, said))
    if a is None or b is None:
        return bool(gold == said)
    decimal = [expr.has(sympy.Float) for expr in (gold, said)]
    rounded = all(decimal) or (any(decimal) and not _short(said if decimal[0] else gold))
    # 1e-12: a third written as 0.333 is off by exactly the tolerance.
    tolerance = TOLERANCE + 1e-12 if rounded else 1e-9
    return abs(a - b) <= tolerance * max(abs(a), 1e-6)


def _short(expr: sympy.Expr) -> bool:
    """Whether some short decimal equals the value exactly, as for x/2 and 3/4; then all other decimals are wrong."""
    expr = expr.doit()  # the parser leaves 1/3 as a power of 3
    parts = expr.atoms(sympy.Pow, sympy.Function, sympy.NumberSymbol)
    if any(part.is_number and not part.is_rational for part in parts):
        return False
    return all(10**30 % number.q == 0 for number in expr.atoms(sympy.Rational))


def _number(expr: sympy.Expr, turn: int) -> complex | None:
    """Evaluate with a different number for each symbol; each `turn` has its own numbers."""
    points = {s: sympy.Rational(sum(map(ord, s.name)) * (turn + 2), 193) for s in expr.free_symbols}
    try:
        value = complex(expr.evalf(20, subs=points))
    except Exception:  # undefined functions, infinities, overflow: no number, so no comparison by value
        return None
    return value if abs(value) < float("inf") else None
