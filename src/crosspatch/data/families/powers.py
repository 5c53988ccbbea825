"""Products of powers, and sums of roots."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Solving, WorkedStep
from crosspatch.data.latex import mark
from crosspatch.data.mistakes import Broken

BASES = ("x", "a", "b", "y", "z", "2", "3", "5", "7", "10")
_LARGEST: dict[Difficulty, int] = {"easy": 6, "medium": 12, "hard": 30}


@dataclass(frozen=True)
class PowerProduct(Exercise):
    """base^e₁ · base^e₂ · …"""

    base: str
    exponents: tuple[int, ...]

    wordings = (
        "Simplify {given}.",
        "Write {given} as one power of {base}.",
        "What is {given} as a single power?",
        "Combine {given} into one power.",
        "Express {given} as a power of {base}.",
    )
    label, relation = "We simplify", "value"

    @property
    def key(self) -> Hashable:
        """The base and the sorted exponents; all letters count as the same base."""
        return self.base if self.base.isdigit() else "x", tuple(sorted(self.exponents))

    def _given(self) -> str:
        return r" \cdot ".join(self._power(e) for e in self.exponents)

    def admits(self, value: int) -> bool:
        """Whether both are the same number for the base 2."""
        return 2**value == math.prod(2**e for e in self.exponents)

    def _work(self, broken: Broken) -> Solving:
        """Combine two powers at a time."""
        first, *others = self.exponents
        multiplied = "exponent" in broken
        while others:
            second, *others = others
            result = first * second if multiplied else first + second
            wrong = result != first + second
            sign = mark("sign", r"\cdot" if multiplied else "+", wrong)
            powers = self._power(f"{first} {sign} {second}"), self._power(mark("number", str(result), wrong))
            lines = (r" \cdot ".join([power, *map(self._power, others)]) for power in powers)
            verb = mark("word", "Multiply" if multiplied else "Add", wrong)
            yield WorkedStep("product_of_powers", f"{verb} the exponents ${first}$ and ${second}$", tuple(lines))
            first = result
        return self._power(first), (first,)

    def _power(self, exponent: int | str) -> str:
        return f"{self.base}^{{{exponent}}}"


@dataclass(frozen=True)
class RootSum(Exercise):
    """√n₁ + √n₂ (+ √n₃), where all terms are multiples of one root."""

    numbers: tuple[int, ...]

    wordings = (
        "Simplify {given}.",
        "Write {given} with a single root.",
        "What is {given} in simplest form?",
        "Add the roots: {given}",
        "Calculate {given} exactly.",
    )
    label, relation = "We simplify", "value"

    @property
    def key(self) -> Hashable:
        """The sorted numbers under the roots."""
        return tuple(sorted(self.numbers))

    def _given(self) -> str:
        return " + ".join(_multiple(1, n) for n in self.numbers)

    def admits(self, value: tuple[int, int]) -> bool:
        """Whether factor·√n, given as (factor, n), has the sum's square, computed from products that are squares."""
        factor, inside = value
        return factor * factor * inside == sum(math.isqrt(a * b) for a in self.numbers for b in self.numbers)

    def _work(self, broken: Broken) -> Solving:
        """Take square factors out of each root, then add the multiples."""
        if "roots" in broken:
            total, plus = sum(self.numbers), f" {mark('sign', '+')} "
            lines = (
                rf"\sqrt{{{plus.join(map(str, self.numbers))}}}",
                rf"\sqrt{{{mark('number', str(total))}}}",
            )
            yield WorkedStep("add_roots", f"{mark('word', 'Add')} what stands under the roots", lines)
            factor, inside = _square_out(total)
            if factor > 1:
                title = f"Take the square ${factor * factor}$ out of the root"
                yield WorkedStep("take_out", title, (_multiple(factor, inside),))
        else:
            taken = [_square_out(n) for n in self.numbers]
            inside, factor = taken[0][1], sum(f for f, _ in taken)
            taken_out = " + ".join(_multiple(f, inside) for f, _ in taken)
            yield WorkedStep("take_out", "Take the squares out of the roots", (taken_out,))
            title = f"Add the multiples of ${_multiple(1, inside)}$"
            yield WorkedStep("add_roots", title, (_multiple(factor, inside),))
        return _multiple(factor, inside), ((factor, inside),)


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """Generate a product of powers, or a sum of roots."""
    limit = _LARGEST[difficulty]
    if form == "power_product":
        count = rng.choice((2, 2, 3))
        # A mistaken solver multiplies the three exponents; the result must not exceed the largest power a grader reads.
        largest = limit if count == 2 else min(limit, 9)
        return PowerProduct(rng.choice(BASES), tuple(rng.randint(2, largest) for _ in range(count)))
    inside = rng.choice((2, 3, 5, 6, 7, 10, 11, 13))
    factors = rng.sample(range(1, max(6, limit)), rng.choice((2, 2, 3)))
    return RootSum(tuple(factor * factor * inside for factor in factors))


def _multiple(factor: int, inside: int) -> str:
    return str(factor) if inside == 1 else rf"{factor if factor != 1 else ''}\sqrt{{{inside}}}"


def _square_out(n: int) -> tuple[int, int]:
    """Return factor and rest with factor²·rest = n, with the largest possible factor."""
    factor = next(f for f in range(math.isqrt(n), 0, -1) if n % (f * f) == 0)
    return factor, n // (factor * factor)
