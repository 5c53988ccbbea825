r"""Compares two mathematical answers: math-verify decides equality; the rules here decide what is compared.

The rules: values in any order, tuples with named values and lists, inequalities with intervals, equations up to a
factor, units by conversion. They also guard what math-verify gets wrong:
- It rounds numbers absolutely, so 1/2^98 equals 1/2^99 and 9.1e-31 equals 1.6e-19. Constants are compared relatively.
- It may simplify expressions for minutes, and fails to prove some identities. Expressions are compared at a few points.
- It compares equations by their real solutions, so x² + 1 = 0 equals x² + 2 = 0. Equations are equal up to a factor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import math_verify.grader
import sympy
from math_verify.grader import is_relation, unwrap_fcs

from crosspatch.grading.math_answer import MathAnswer, Value, parse
from crosspatch.grading.spelling import one_spelling

# math-verify's own timeouts need signals, so they fail outside of the main thread; it warns if they are off.
math_verify.grader.TIMEOUT_WARNING_SHOWN = True

# A decimal may stand for a value that has no short decimal, such as 16π, if they differ by at most this fraction.
ROUNDING = 1e-3
_DIGITS = 50  # of the values at a point
_SIGNS = ((1, 1), (-1, 1), (1, -1), (-1, -1))  # of the first and second symbol, at each point


def compare(gold: MathAnswer, said: MathAnswer) -> tuple[bool, str]:
    """Return whether two answers agree, and the rule that decides."""
    if _spaceless(gold.text) == _spaceless(said.text):
        return True, "same text"
    rules = {"equal values": _same_values, "equal tuples": _same_tuples, "equal sets": _same_sets}
    for rule, agree in rules.items():
        with suppress(Exception):  # sympy may raise anything for objects that cannot be compared
            if agree(gold, said):
                return True, rule
    counts = len(gold.values), len(said.values)
    return False, "different values" if len(set(counts)) == 1 else f"{counts[1]} values for {counts[0]}"


def same_text(one: str, other: str) -> bool:
    """Whether two answers are written alike, ignoring spacing and markup."""
    short = len(one) < 1_000 and len(other) < 1_000
    return short and _spaceless(one_spelling(one)) == _spaceless(one_spelling(other)) != ""


def _spaceless(text: str) -> str:
    return re.sub(r"\s", "", text)


def _same_values(gold: MathAnswer, said: MathAnswer) -> bool:
    """Whether both have the same values: in any order, except that values without names go with names in order."""
    if len(gold.values) > 1 and len(_unknowns(gold)) == 1:
        return False  # inequalities in one unknown are compared as sets
    if gold.named and not any(value.label for value in said.values):
        return len(gold.values) == len(said.values) and all(map(_equal, gold.values, said.values))
    golds, saids = ({value.label: value for value in answer.values} for answer in (gold, said))
    if gold.named and golds.keys() == saids.keys():
        return all(_equal(golds[name], saids[name]) for name in golds)
    return _decimal_comma(gold, said) or _decimal_comma(said, gold) or _each_in(gold.values, said.values, _equal)


def _each_in(golds: Sequence[Any], saids: Sequence[Any], equal: Callable[[Any, Any], bool]) -> bool:
    """Whether both hold the same things, in any order and any number."""
    return all(any(equal(g, s) for g in golds) for s in saids) and all(any(equal(g, s) for s in saids) for g in golds)


def _decimal_comma(answer: MathAnswer, other: MathAnswer) -> bool:
    """Whether 1000,99 is written for the other answer's 1000.99."""
    value = other.values[0]
    if not re.fullmatch(r"-?\d+,\d+", answer.text) or len(other.values) > 1 or not value.constant:
        return False
    return not value.expr.is_integer and equal_values(value.expr, parse(answer.text.replace(",", ".")))


def _equal(gold: Value, said: Value) -> bool:
    if gold.equation or (said.equation and gold.label):
        return _same_equation(gold, said)
    if gold.label and said.label and gold.expr.free_symbols | said.expr.free_symbols and _same_equation(gold, said):
        return True
    return _labels_agree(gold.label, said.label) and _same_quantity(gold, said)


def _same_quantity(gold: Value, said: Value) -> bool:
    """Whether two values are equal with their units, percent signs and number bases."""
    factor = _conversion(said.unit, gold.unit)
    if factor is None or (":" in gold.written and gold.written.lstrip("0") != said.written.lstrip("0")):
        return False
    if gold.based != said.based:  # the base may be left out
        plain, based = (gold, said) if said.based else (said, gold)
        return based.written.isdigit() and plain.expr == int(based.written)
    if gold.free and said.free and len(gold.expr.free_symbols) == 1:
        (x,) = gold.expr.free_symbols
        return equal_values(gold.expr, said.expr) or equal_values(gold.expr.diff(x), said.expr.diff(x))
    if gold.percent != said.percent:
        # The sign may be understood: 28 for 28%, and 28% for 28, but not 0.5% for 0.5.
        understood = gold.expr * 100 if gold.percent else gold.expr / 100 if abs(gold.expr) >= 1 else gold.expr
        if equal_values(understood, said.expr):
            return True
    return equal_values(gold.expr, said.expr if factor == 1 else said.expr * factor)


def _labels_agree(gold: str, said: str) -> bool:
    """Whether the names may belong to one answer: `x` and `y`, f' and f'', |x| and x may not, other names may."""
    if not gold or not said:
        return True
    # The letter of a function's argument may be any: W(n) and W(x).
    gold, said = (re.sub(r"\([a-z]\)", "()", label) for label in (gold, said))
    (name, _, index), (other, _, other_index) = gold.partition("_"), said.partition("_")
    if index and other_index and index != other_index:
        return False
    if name == other:
        return True
    shapes = [re.sub(r"\d+", "1", re.sub(r"[A-Z]", "A", re.sub(r"\\?[a-z]", "a", each))) for each in (name, other)]
    if re.fullmatch(r"[a-zA-Z]|[a-z]{2,3}|.*\|.*", name) or len(set(shapes)) == 1:
        return False
    return "'" not in gold or "'" not in said or gold.count("'") == said.count("'")


def _same_equation(gold: Value, said: Value) -> bool:
    """Whether one equation is the other times a number: the quotient of both numerators is the same everywhere."""
    sides = []
    for value in (gold, said):
        left, right = value.expr.args if value.equation else (parse(value.label), value.expr)
        if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
            return False
        sides.append(sympy.fraction(sympy.together(left - right))[0])
    try:
        ratios = [_number(sides[0], point) / _number(sides[1], point) for point in range(len(_SIGNS))]
    except Exception:  # undefined functions
        return bool(sides[0] == sides[1])
    return bool(ratios[0]) and all(_difference(ratios[0], ratio) < 1e-9 for ratio in ratios)


def _conversion(said: str, gold: str) -> Any:
    """Return the factor from one unit to another, 1 if one is unknown; None if they measure different things."""
    a, b = (_quantity(unit) if said and gold else None for unit in (said, gold))
    if a is None or b is None:
        return 1
    factor = _units()["convert_to"](a, b) / b
    return factor if factor.is_number else None


@cache
def _units() -> dict[str, Any]:
    """Return sympy's units by their names, and some that it does not have; importing them takes 0.2 s."""
    from sympy.physics import units

    cent = sympy.Symbol("cent")
    return {
        **vars(units),
        **{name: sympy.Symbol(name) for name in ("am", "pm", "euros", "sterling", "yen", "rupees")},
        "euro": sympy.Symbol("euros"), "cent": cent, "cents": cent, "dollar": 100 * cent, "dollars": 100 * cent,
        "gallon": 4 * units.quart, "gallons": 4 * units.quart, "ounce": units.pound / 16, "ounces": units.pound / 16,
        "ton": 1000 * units.kg, "tons": 1000 * units.kg, "kW": 1000 * units.watt, "kHz": 1000 * units.hertz,
        "week": 7 * units.day, "weeks": 7 * units.day, "min": units.minute, "mph": units.mile / units.hour,
    }  # fmt: skip


@cache
def _quantity(unit: str) -> Any:
    """Return sympy's quantity for a unit's name, such as "square centimeters" or "cm^2"."""
    words = (unit if len(unit) < 4 else unit.lower()).replace("metre", "meter").replace(".", "")
    if "/" in words:
        above, below = (_quantity(part) for part in words.split("/", 1))
        return None if above is None or below is None else above / below
    power = 2 if re.search(r"\^\{?2|^sq", words) else 3 if re.search(r"\^\{?3|^cu", words) else 1
    name = re.sub(r"\s?\^.*|^(?:square|sq|cubic|cu)\s", "", words)
    found = _units().get(name, _units().get(name.lower()))
    return found**power if isinstance(found, sympy.Expr) else None


def _same_tuples(gold: MathAnswer, said: MathAnswer) -> bool:
    """Whether tuples, named values and lists are the same: (2, 3), x = 2, y = 3 and 2, 3 in this order."""
    if (
        (gold.named and said.named)
        or _unknowns(gold)
        or _unknowns(said)
        or any(":" in value.written for value in (*gold.values, *said.values))
    ):
        return False
    labels = [answer.values[0].label for answer in (gold, said)]
    if all(label.startswith("(") for label in labels) and labels[0] != labels[1]:
        return False  # (x, y) and (y, x)
    golds, saids = tuples(gold), tuples(said)
    return golds is not None and saids is not None and _each_in(golds, saids, equal_values)


def tuples(answer: MathAnswer) -> list[sympy.Tuple] | None:
    """Return an answer as tuples: p = 5, q = 2; p = 7, q = 2 is (5, 2), (7, 2). None if it is no such list."""
    values = answer.values
    entries = [_entries(value.expr) for value in values]
    if None not in entries:
        return entries
    names = list(dict.fromkeys(value.label for value in values))
    width = len(values) if names == [""] else len(names)
    if width < 2 or [value.label for value in values] != names * (len(values) // len(names)):
        return None
    return [sympy.Tuple(*(value.expr for value in values[i : i + width])) for i in range(0, len(values), width)]


def _entries(expr: Any) -> sympy.Tuple | None:
    if isinstance(expr, sympy.Interval) and expr.left_open and expr.right_open:  # (2, 3) is parsed as an interval
        return sympy.Tuple(expr.start, expr.end)
    if isinstance(expr, sympy.MatrixBase) and 1 in expr.shape:
        return sympy.Tuple(*expr)
    return expr if isinstance(expr, sympy.Tuple) else None


def _same_sets(gold: MathAnswer, said: MathAnswer) -> bool:
    """Whether inequalities and intervals hold for the same numbers: x < 2 or x > 5 and (-∞, 2) ∪ (5, ∞)."""
    if all(isinstance(value.expr, sympy.Expr | sympy.Eq) for value in (*gold.values, *said.values)):
        return False
    if len(_unknowns(gold) | _unknowns(said)) > 1:
        return False
    a, b = _numbers(gold), _numbers(said)
    return bool(a == b or a.symmetric_difference(b).is_empty)


def _unknowns(answer: MathAnswer) -> set[str]:
    """Return the letters of an answer's inequalities."""
    relations = [value.expr for value in answer.values if is_relation(value.expr) and not value.equation]
    return {str(symbol) for relation in relations for symbol in relation.free_symbols}


def _numbers(answer: MathAnswer) -> sympy.Set:
    """Return the union of the values; without `or` the intersection, if there is one: x > 2 and x < 5."""
    sets = []
    for value in answer.values:
        if _large(value.expr):
            raise ValueError("a power or factorial is too large")
        expr = unwrap_fcs(value.expr).as_set() if is_relation(value.expr) else value.expr
        sets.append(sympy.FiniteSet(expr) if isinstance(expr, sympy.Expr) else expr)
    both = sympy.Intersection(*sets)
    either = both.is_empty is not False or re.search(r"\bor\b|\\(?:lor|vee)", answer.text)
    return sympy.Union(*sets) if either else both


def equal_values(gold: Any, said: Any) -> bool:
    """Whether two sympy objects are equal; objects that cannot be compared count as different."""
    if gold.has(sympy.Sum, sympy.Product) or said.has(sympy.Sum, sympy.Product):
        return bool(sympy.expand(gold) == sympy.expand(said))  # evaluating them may take long
    if isinstance(gold, sympy.Expr) and isinstance(said, sympy.Expr):
        points = _SIGNS if gold.free_symbols or said.free_symbols else _SIGNS[:1]
        close = {_close(gold, said, point) for point in range(len(points))} - {None}
        if close:
            return False not in close
    a, b = _entries(gold), _entries(said)
    if a is not None and b is not None:
        return len(a) == len(b) and all(map(equal_values, a, b))
    if isinstance(gold, sympy.MatrixBase) and isinstance(said, sympy.MatrixBase):
        return gold.shape == said.shape and all(map(equal_values, gold, said))
    if isinstance(gold, sympy.Interval) and isinstance(said, sympy.Interval):
        return gold.args[2:] == said.args[2:] and all(map(equal_values, gold.args[:2], said.args[:2]))
    # math-verify computes large powers.
    small = not _large(gold) and not _large(said)
    return bool(
        gold == said or (small and math_verify.verify(gold, said, allow_set_relation_comp=True, timeout_seconds=None))
    )


def _close(gold: sympy.Expr, said: sympy.Expr, point: int) -> bool | None:
    """Whether two expressions have the same value at a point; decimals may be rounded. None if it is not real there."""
    symbols = gold.free_symbols | said.free_symbols
    try:
        a, b = _number(gold, point), _number(said, point)
    except Exception:  # undefined functions, infinities, too large powers: no number, so no comparison by value
        return None if symbols else bool(gold == said)
    if symbols and not (a.is_real and b.is_real) and not (gold.has(sympy.I) or said.has(sympy.I)):
        return None
    decimal = [expr.has(sympy.Float) for expr in (gold, said)]
    if not any(decimal):
        large = _large(gold) or _large(said)
        if large and (gold.has(sympy.Add) or said.has(sympy.Add)):
            return bool(gold == said)  # 50 digits do not tell 2^20000 from 2^20000 + 1
        # Where digits may not suffice, the difference is computed exactly.
        exact = None if symbols or large else (gold - said).doit()
        return exact == 0 if isinstance(exact, sympy.Rational) else bool(_difference(a, b) < 10 ** (10 - _DIGITS))
    rounded = not all(decimal) and not _short(said if decimal[0] else gold)
    # The parser's floating-point numbers have 16 digits; a third written as 0.333 is off by exactly the tolerance.
    digits = min(number._prec for number in gold.atoms(sympy.Float) | said.atoms(sympy.Float)) // 4
    return bool(_difference(a, b) <= (ROUNDING + 1e-12 if rounded else 10.0 ** -min(digits, _DIGITS - 5)))


def _difference(a: Any, b: Any) -> Any:
    """Return the difference of two numbers as a fraction of the larger one."""
    return abs(a - b) / max(abs(a), abs(b)) if a or b else sympy.Integer(0)


def _short(expr: sympy.Expr) -> bool:
    """Whether some short decimal equals the value exactly, as for x/2 and 3/4; then all other decimals are wrong."""
    if _large(expr):
        return False
    expr = expr.doit()  # the parser leaves 1/3 as a power of 3
    parts = expr.atoms(sympy.Pow, sympy.Function, sympy.NumberSymbol)
    if any(part.is_number and not part.is_rational for part in parts):
        return False
    return all(10**30 % number.q == 0 for number in expr.atoms(sympy.Rational))


def _number(expr: sympy.Expr, point: int) -> sympy.Expr:
    """Evaluate with a different number for each symbol; raises if the value is no finite number, or takes long."""
    numbers = {}
    for i, symbol in enumerate(sorted(expr.free_symbols, key=str)):
        size = sum((k + 1) * ord(letter) for k, letter in enumerate(symbol.name))
        numbers[symbol] = _SIGNS[point][i % 2] * sympy.Rational(size * (point + 2), 193)
    if _large(expr, 10**12, numbers):
        raise ValueError("a power or factorial is too large")
    value = expr if expr.is_Rational else expr.evalf(_DIGITS, subs=numbers)
    if not value.is_number or not value.is_finite:
        raise ValueError("no finite number")
    return value


def _large(expr: sympy.Expr, most: int = 10**4, numbers: dict[sympy.Symbol, sympy.Expr] | None = None) -> bool:
    """Whether an exponent or a factorial is larger than sympy can compute fast, exactly or approximately."""
    growing = (sympy.Pow, sympy.exp, sympy.factorial, sympy.gamma)
    # The innermost first: the size of an outer one may take long to compute.
    arguments = (node.args[-1] for node in sympy.postorder_traversal(expr) if isinstance(node, growing))
    sizes = (sympy.N(argument, subs=numbers) for argument in arguments)
    return any(size.is_number and abs(size) > most for size in sizes)
