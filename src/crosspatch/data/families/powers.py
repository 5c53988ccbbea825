"""Products of powers, and sums of roots."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Show, WorkedStep
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.styles import plain

BASES = ("x", "a", "b", "y", "z", "2", "3", "5", "7", "10")
_LARGEST: dict[Difficulty, int] = {"easy": 6, "medium": 12, "hard": 30}

POWER_WORDINGS = (
    "Simplify {expression}.",
    "Write {expression} as one power of {base}.",
    "What is {expression} as a single power?",
    "Combine {expression} into one power.",
    "Express {expression} as a power of {base}.",
)
ROOT_WORDINGS = (
    "Simplify {expression}.",
    "Write {expression} with a single root.",
    "What is {expression} in simplest form?",
    "Add the roots: {expression}",
    "Calculate {expression} exactly.",
)


@dataclass(frozen=True)
class PowerProduct(Exercise):
    """base^e₁ · base^e₂ · …"""

    base: str
    exponents: tuple[int, ...]

    @property
    def key(self) -> Hashable:
        """Base and exponents in any order; all letters are the same base."""
        return self.base if self.base.isdigit() else "x", tuple(sorted(self.exponents))

    def _written(self) -> str:
        return r" \cdot ".join(_power(self.base, e) for e in self.exponents)

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return rng.choice(POWER_WORDINGS).format(expression=plain(self._written()), base=self.base)

    def admits(self, value: Hashable) -> bool:
        """Whether it is the same number where the base is 2."""
        return isinstance(value, int) and 2**value == math.prod(2**e for e in self.exponents)

    def solve(self, rules: Rules) -> Derivation:
        """Two powers at a time."""
        steps, exponents = [], list(self.exponents)
        broken = rules.broken("exponent")
        while len(exponents) > 1:
            first, second, *rest = exponents
            result = first * second if broken else first + second
            wrong = result != first + second
            behind = [_power(self.base, e) for e in rest]
            sign = mark("sign", r"\cdot" if broken else "+", wrong)
            unfinished = f"{self.base}^{{{first} {sign} {second}}}"
            finished = f"{self.base}^{{{mark('number', str(result), wrong)}}}"
            lines = tuple(Show(r" \cdot ".join([power, *behind])) for power in (unfinished, finished))
            verb = mark("word", "Multiply" if broken else "Add", wrong)
            title = f"{verb} the exponents ${first}$ and ${second}$"
            steps.append(WorkedStep("product_of_powers", title, lines, planted=wrong, relation="value"))
            exponents = [result, *rest]
        answer = _power(self.base, exponents[0])
        return Derivation(self._written(), "We simplify", tuple(steps), answer, (exponents[0],))


@dataclass(frozen=True)
class RootSum(Exercise):
    """√n₁ + √n₂ (+ √n₃), which are multiples of one root."""

    numbers: tuple[int, ...]

    @property
    def key(self) -> Hashable:
        """The numbers under the roots, in any order."""
        return tuple(sorted(self.numbers))

    def _written(self) -> str:
        return " + ".join(rf"\sqrt{{{n}}}" for n in self.numbers)

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return rng.choice(ROOT_WORDINGS).format(expression=plain(self._written()))

    def admits(self, value: Hashable) -> bool:
        """Whether (factor, n), which stands for factor·√n, has the same square: all products are squares."""
        if not isinstance(value, tuple):
            return False
        factor, inside = value
        return factor * factor * inside == sum(math.isqrt(a * b) for a in self.numbers for b in self.numbers)

    def solve(self, rules: Rules) -> Derivation:
        """Squares come out of each root, then the multiples are added."""
        if rules.broken("roots"):
            total, plus = sum(self.numbers), mark("sign", "+")
            lines = (
                Show(rf"\sqrt{{{f' {plus} '.join(map(str, self.numbers))}}}"),
                Show(rf"\sqrt{{{mark('number', str(total))}}}"),
            )
            title = f"{mark('word', 'Add')} what stands under the roots"
            steps = [WorkedStep("add_roots", title, lines, planted=True, relation="value")]
            factor, inside = _square_out(total)
            if factor > 1:
                title = f"Take the square ${factor * factor}$ out of the root"
                line = Show(_multiple(factor, inside))
                steps.append(WorkedStep("take_out", title, (line,), relation="value"))
        else:
            taken = [_square_out(n) for n in self.numbers]
            inside, factor = taken[0][1], sum(f for f, _ in taken)
            taken_out = (Show(" + ".join(_multiple(f, inside) for f, _ in taken)),)
            steps = [WorkedStep("take_out", "Take the squares out of the roots", taken_out, relation="value")]
            title = f"Add the multiples of ${_multiple(1, inside)}$"
            steps.append(WorkedStep("add_roots", title, (Show(_multiple(factor, inside)),), relation="value"))
        answer = _multiple(factor, inside)
        return Derivation(self._written(), "We simplify", tuple(steps), answer, ((factor, inside),))


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """A product of powers, or a sum of roots."""
    limit = _LARGEST[difficulty]
    if form == "power_product":
        count = rng.choice((2, 2, 3))
        # Multiplied by mistake three exponents shall not leave what a grader reads as a power.
        largest = limit if count == 2 else min(limit, 9)
        return PowerProduct(rng.choice(BASES), tuple(rng.randint(2, largest) for _ in range(count)))
    inside = rng.choice((2, 3, 5, 6, 7, 10, 11, 13))
    factors = rng.sample(range(1, max(6, limit)), rng.choice((2, 2, 3)))
    return RootSum(tuple(factor * factor * inside for factor in factors))


def _power(base: str, exponent: int) -> str:
    return f"{base}^{{{exponent}}}"


def _multiple(factor: int, inside: int) -> str:
    if inside == 1:
        return str(factor)
    return rf"{factor if factor != 1 else ''}\sqrt{{{inside}}}"


def _square_out(n: int) -> tuple[int, int]:
    """factor and rest with factor²·rest = n, the factor as large as can be."""
    factor = next(f for f in range(math.isqrt(n), 0, -1) if n % (f * f) == 0)
    return factor, n // (factor * factor)
