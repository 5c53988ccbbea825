"""Sheets of small sums, such as the steps of an equation are made of: 12 - 30, -54 / 6, 9x - 4x. Knows no model."""

from __future__ import annotations

from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.families.sizes import RANGES, UNKNOWNS
from crosspatch.data.polynomial import Polynomial

LINES = 8

_WORDINGS = ("Work out:", "Calculate:", "Fill in the results:")


def draw_sheet(rng: Random, difficulty: Difficulty) -> tuple[str, str]:
    """A question of eight sums, a line each, and its solution: each line with its result."""
    sums = [_draw(rng, difficulty) for _ in range(LINES)]
    question = "\n".join([rng.choice(_WORDINGS), *(asked for asked, _ in sums)])
    return question, "\n".join(f"{asked} = {result}" for asked, result in sums)


def _draw(rng: Random, difficulty: Difficulty) -> tuple[str, str]:
    ranges = RANGES[difficulty]
    match rng.choice(("sum", "sum", "sum", "quotient", "quotient", "like_terms")):
        case "sum":
            # A constant is moved to a right side that holds a product and a constant.
            b, reach = rng.randint(1, ranges.constant), ranges.factor * ranges.solution + ranges.constant
            a = rng.randint(-reach, reach)
            sign = rng.choice("+-")
            return f"{a} {sign} {b}", str(a + b if sign == "+" else a - b)
        case "quotient":
            divisor = rng.choice((-1, 1, 1)) * rng.randint(2, ranges.factor)
            result = rng.choice((-1, 1)) * rng.randint(1, ranges.solution)
            return f"{divisor * result} / {divisor}", str(result)
        case _:
            a, c = rng.sample(range(2, ranges.factor + 1), 2)
            x = rng.choice(UNKNOWNS)
            return f"{a}{x} - {c}{x}", Polynomial(linear=a - c).latex(x)
