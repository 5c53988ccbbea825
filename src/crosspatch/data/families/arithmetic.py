"""Arithmetic with several operations, and sums of fractions."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Solving, WorkedStep
from crosspatch.data.latex import Rational, mark, number
from crosspatch.data.mistakes import Broken

_SIZES: dict[Difficulty, tuple[int, int]] = {"easy": (9, 5), "medium": (20, 9), "hard": (60, 15)}
_VERBS = {"+": "Add", "-": "Subtract", "×": "Multiply"}

# An expression without brackets: alternating numbers and + - ×. A number with marks is a str.
Terms = tuple["int | str", ...]


class _Calculated(Exercise):
    wordings = (
        "Calculate {given}.",
        "What is {given}?",
        "Work out {given}.",
        "Find the value of {given}.",
        "Evaluate {given}.",
        "How much is {given}?",
    )
    label, relation = "We calculate", "value"


@dataclass(frozen=True)
class Operations(_Calculated):
    """`before` (`inside`) `after`: an expression with one bracket, or none if `inside` is empty.

    `before` ends, and `after` begins, with an operation.
    """

    before: Terms
    inside: Terms
    after: Terms

    def _given(self) -> str:
        return _latex((*self.before, *((f"({_latex(self.inside)})",) if self.inside else ()), *self.after))

    def admits(self, value: int) -> bool:
        """Whether the value is the expression's, computed with the bracket first, then products, then sums."""
        return value == _value(self._flat)

    @property
    def _flat(self) -> Terms:
        """The expression with the bracket's value in place of the bracket."""
        inside = (_value(self.inside),) if self.inside else ()
        return (*self.before, *inside, *self.after)

    def _work(self, broken: Broken) -> Solving:
        """Work out the bracket, then one operation after the other."""
        terms = self._flat
        if self.inside and self.before[-1:] == ("-",) and self.after[:1] != ("×",):
            wrong = "bracket" in broken
            first, sign, second = self.inside
            changed = sign if wrong else {"+": "-", "-": "+"}[str(sign)]
            terms = (*self.before, first, changed, second, *self.after)
            line = _latex((*self.before, first, mark("sign", str(changed), wrong), second, *self.after))
            yield WorkedStep("expand", "Remove the bracket", (line,))
        elif self.inside:
            yield WorkedStep("bracket", "Work out the bracket", (_latex(terms),))
        while len(terms) > 1:
            at = 1 if "order" in broken or "×" not in terms else terms.index("×")
            left, sign, right = terms[at - 1 : at + 2]
            result = _value((left, sign, right))
            rest = (*terms[: at - 1], result, *terms[at + 2 :])
            wrong = _value(rest) != _value(terms)
            shown = mark("number", str(result), wrong)
            line = _latex((*terms[: at - 1], shown, *terms[at + 2 :]))
            verb = mark("word", _VERBS[str(sign)], wrong)
            title = f"{verb} ${right}$ from ${left}$" if sign == "-" else f"{verb} ${left}$ and ${right}$"
            yield WorkedStep(_VERBS[str(sign)].lower(), title, (line,))
            terms = rest
        return str(terms[0]), (int(terms[0]),)


@dataclass(frozen=True)
class FractionSum(_Calculated):
    """A sum of fractions with different denominators, each (numerator, denominator)."""

    terms: tuple[tuple[int, int], ...]

    @property
    def key(self) -> Hashable:
        """The sorted fractions."""
        return tuple(sorted(self.terms))

    def _given(self) -> str:
        return _fractions(self.terms)

    def admits(self, value: Rational) -> bool:
        """Whether the value times all denominators equals the sum times all denominators."""
        product = math.prod(b for _, b in self.terms)
        return value * product == sum(a * (product // b) for a, b in self.terms)

    def _work(self, broken: Broken) -> Solving:
        """Find a common denominator, add the numerators, reduce."""
        if "denominator" in broken:
            over, under = (sum(parts) for parts in zip(*self.terms, strict=True))
            tops, unders = (map(str, parts) for parts in zip(*self.terms, strict=True))
            plus = f" {mark('sign', '+')} "
            lines = (
                rf"\frac{{{' + '.join(tops)}}}{{{plus.join(unders)}}}",
                rf"\frac{{{over}}}{{{mark('number', str(under))}}}",
            )
            title = f"{mark('word', 'Add')} the numerators and the denominators"
            yield WorkedStep("add_fractions", title, lines)
        else:
            under = math.lcm(*(b for _, b in self.terms))
            wider = tuple((a * (under // b), under) for a, b in self.terms)
            title = f"Bring the fractions to the denominator {under}"
            yield WorkedStep("common_denominator", title, (_fractions(wider),))
            over = sum(a for a, _ in wider)
            yield WorkedStep("add_fractions", "Add the numerators", (_fractions(((over, under),)),))
        value = Fraction(over, under)
        if value.denominator != under:
            yield WorkedStep("reduce", "Reduce the fraction", (number(value),))
        return number(value), (value,)


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """Generate an expression, or a sum of fractions."""
    large, small = _SIZES[difficulty]
    if form == "fractions":
        unders = rng.sample(range(2, max(8, small + 3)), rng.choice((2, 2, 3)))
        tops = [rng.choice([a for a in range(1, under) if math.gcd(a, under) == 1]) for under in unders]
        return FractionSum(tuple(zip(tops, unders, strict=True)))

    # N is replaced by a large number, n by a small number, ± by a sign.
    limits = {"N": large, "n": small}

    def drawn(pattern: str) -> Terms:
        return tuple(
            rng.randint(2, limits[char]) if char in limits else rng.choice("+-") if char == "±" else char
            for char in pattern
        )

    patterns = (("N±", "", "n×n"), ("N-", "N±N", ""), ("n×", "N±n", "±N"), ("N±n×n", "", "±N"), ("N±N-", "n±n", ""))
    before, inside, after = patterns[rng.randrange(5)]
    return Operations(drawn(before), drawn(inside), drawn(after))


def _value(terms: Terms) -> int:
    """Compute an expression, products before sums."""
    total, sign, product = 0, 1, int(terms[0])
    for operation, operand in zip(terms[1::2], terms[2::2], strict=True):
        if operation == "×":
            product *= int(operand)
        else:
            total += sign * product
            sign, product = (1 if operation == "+" else -1), int(operand)
    return total + sign * product


def _latex(terms: Terms) -> str:
    """Format an expression, with brackets around a negative number that follows an operation."""
    parts = (f"({term})" if isinstance(term, int) and term < 0 and i else str(term) for i, term in enumerate(terms))
    return " ".join(parts).replace("×", r"\times")


def _fractions(terms: tuple[tuple[int, int], ...]) -> str:
    return " + ".join(rf"\frac{{{a}}}{{{b}}}" for a, b in terms)
