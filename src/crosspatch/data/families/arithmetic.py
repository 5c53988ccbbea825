"""Arithmetic with several operations, and sums of fractions."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Show, WorkedStep
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Rational, number

WORDINGS = (
    "Calculate {expression}.",
    "What is {expression}?",
    "Work out {expression}.",
    "Find the value of {expression}.",
    "Evaluate {expression}.",
    "How much is {expression}?",
)

_SIZES: dict[Difficulty, tuple[int, int]] = {"easy": (9, 5), "medium": (20, 9), "hard": (60, 15)}

# A flat expression: numbers and + - × in turn.
Terms = tuple["int | str", ...]


@dataclass(frozen=True)
class Operations(Exercise):
    """`before` (`inside`) `after`: an expression with one bracket, or none where `inside` is empty.

    `before` ends, and `after` begins, with an operation.
    """

    before: Terms
    inside: Terms
    after: Terms

    @property
    def key(self) -> Hashable:
        """All of it."""
        return self.before, self.inside, self.after

    def _written(self, times: str) -> str:
        parts = [_joined(self.before, times), f"({_joined(self.inside, times)})" if self.inside else ""]
        return " ".join(part for part in [*parts, _joined(self.after, times)] if part)

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return rng.choice(WORDINGS).format(expression=self._written("×"))

    def admits(self, value: Hashable) -> bool:
        """Whether it is the expression's value, the bracket first, then products, then sums."""
        inside = (_value(self.inside),) if self.inside else ()
        return value == _value((*self.before, *inside, *self.after))

    def solve(self, rules: Rules) -> Derivation:
        """The bracket, then one operation after the other."""
        steps: list[WorkedStep] = []
        terms: Terms = (*self.before, *self.after)
        if self.inside:
            terms = self._without_bracket(rules, steps)
        while len(terms) > 1:
            products = [i for i, term in enumerate(terms) if term == "×"]
            at = 1 if rules.broken("order") or not products else products[0]
            left, sign, right = terms[at - 1 : at + 2]
            result = _value((left, sign, right))
            rest = (*terms[: at - 1], result, *terms[at + 2 :])
            wrong = _value(rest) != _value(terms)
            verb = {"+": "Add", "-": "Subtract", "×": "Multiply"}[str(sign)]
            kind = {"+": "add", "-": "subtract", "×": "multiply"}[str(sign)]
            shown = mark("number", str(result), wrong)
            line = " ".join(part for part in (_joined(terms[: at - 1]), shown, _joined(terms[at + 2 :])) if part)
            title = f"{mark('word', verb, wrong)} ${left}$ and ${right}$"
            if sign == "-":
                title = f"{mark('word', verb, wrong)} ${right}$ from ${left}$"
            steps.append(WorkedStep(kind, title, (Show(line),), planted=wrong, relation="value"))
            terms = rest
        (value,) = terms
        return Derivation(self._written(r"\times"), "We calculate", tuple(steps), str(value), (value,))

    def _without_bracket(self, rules: Rules, steps: list[WorkedStep]) -> Terms:
        """A bracket behind a minus is opened, any other is worked out."""
        if self.before[-1:] != ("-",) or "×" in self.after[:1]:
            result = (*self.before, _value(self.inside), *self.after)
            steps.append(WorkedStep("bracket", "Work out the bracket", (Show(_joined(result)),), relation="value"))
            return result
        wrong = rules.broken("bracket")
        first, sign, second = self.inside
        turned = sign if wrong else {"+": "-", "-": "+"}[str(sign)]
        result = (*self.before, first, turned, second, *self.after)
        line = " ".join(
            part
            for part in (
                _joined((*self.before, first)),
                mark("sign", str(turned), wrong),
                str(second),
                _joined(self.after),
            )
            if part
        )
        steps.append(WorkedStep("expand", "Remove the bracket", (Show(line),), planted=wrong, relation="value"))
        return result


@dataclass(frozen=True)
class FractionSum(Exercise):
    """A sum of fractions with different denominators, each (numerator, denominator)."""

    terms: tuple[tuple[int, int], ...]

    @property
    def key(self) -> Hashable:
        """The fractions in any order."""
        return tuple(sorted(self.terms))

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return rng.choice(WORDINGS).format(expression=" + ".join(f"{a}/{b}" for a, b in self.terms))

    def admits(self, value: Hashable) -> bool:
        """Whether the value times all denominators is what the sum times them is."""
        product = math.prod(b for _, b in self.terms)
        return isinstance(value, Rational) and value * product == sum(a * (product // b) for a, b in self.terms)

    def solve(self, rules: Rules) -> Derivation:
        """One denominator, then the sum of the numerators, then reduced."""
        given = _fractions(self.terms)
        steps = []
        if rules.broken("denominator"):
            over, under = (sum(parts) for parts in zip(*self.terms, strict=True))
            plus = (" + ", f" {mark('sign', '+')} ")
            parts = [plus[i].join(str(term[i]) for term in self.terms) for i in (0, 1)]
            lines = (
                Show(rf"\frac{{{parts[0]}}}{{{parts[1]}}}"),
                Show(rf"\frac{{{over}}}{{{mark('number', str(under))}}}"),
            )
            title = f"{mark('word', 'Add')} the numerators and the denominators"
            steps.append(WorkedStep("add_fractions", title, lines, planted=True, relation="value"))
        else:
            under = math.lcm(*(b for _, b in self.terms))
            wider = tuple((a * (under // b), under) for a, b in self.terms)
            title = f"Bring the fractions to the denominator {under}"
            steps.append(WorkedStep("common_denominator", title, (Show(_fractions(wider)),), relation="value"))
            over = sum(a for a, _ in wider)
            line = Show(rf"\frac{{{over}}}{{{under}}}")
            steps.append(WorkedStep("add_fractions", "Add the numerators", (line,), relation="value"))
        value = Fraction(over, under)
        if value.denominator != under:
            steps.append(WorkedStep("reduce", "Reduce the fraction", (Show(number(value)),), relation="value"))
        return Derivation(given, "We calculate", tuple(steps), number(value), (value,))


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """An expression, or a sum of fractions."""
    large, small = _SIZES[difficulty]
    if form == "fractions":
        return _fraction_sum(rng, small)

    def big() -> int:
        return rng.randint(2, large)

    def little() -> int:
        return rng.randint(2, small)

    def sign() -> str:
        return rng.choice("+-")

    match rng.randrange(5):
        case 0:
            return Operations((big(), sign()), (), (little(), "×", little()))
        case 1:
            return Operations((big(), "-"), (big(), sign(), big()), ())
        case 2:
            return Operations((little(), "×"), (big(), sign(), little()), (sign(), big()))
        case 3:
            return Operations((big(), sign(), little(), "×", little()), (), (sign(), big()))
        case _:
            return Operations((big(), sign(), big(), "-"), (little(), sign(), little()), ())


def _fraction_sum(rng: Random, small: int) -> FractionSum:
    unders = rng.sample(range(2, max(8, small + 3)), rng.choice((2, 2, 3)))
    tops = [rng.choice([a for a in range(1, under) if math.gcd(a, under) == 1]) for under in unders]
    return FractionSum(tuple(zip(tops, unders, strict=True)))


def _value(terms: Terms) -> int:
    """Products before sums."""
    total, sign, product = 0, 1, int(terms[0])
    for operation, operand in zip(terms[1::2], terms[2::2], strict=True):
        if operation == "×":
            product *= int(operand)
        else:
            total += sign * product
            sign, product = (1 if operation == "+" else -1), int(operand)
    return total + sign * product


def _joined(terms: Terms, times: str = r"\times") -> str:
    """As it is written; a negative number behind an operation in brackets."""
    parts = []
    for i, term in enumerate(terms):
        if isinstance(term, str):
            parts.append(times if term == "×" else term)
        else:
            parts.append(f"({term})" if term < 0 and i else str(term))
    return " ".join(parts)


def _fractions(terms: tuple[tuple[int, int], ...]) -> str:
    return " + ".join(rf"\frac{{{a}}}{{{b}}}" for a, b in terms)
