"""How large the numbers of equations and their kin are, by difficulty, and what their unknowns are called."""

from __future__ import annotations

from dataclasses import dataclass

from crosspatch.config import Difficulty

UNKNOWNS = "xyzabmnpkt"


@dataclass(frozen=True)
class Ranges:
    """The largest sizes that are drawn: factors, solutions, constants; roots and constants of quadratics."""

    factor: int
    solution: int
    constant: int
    root: int
    quadratic_constant: int


RANGES: dict[Difficulty, Ranges] = {
    "easy": Ranges(6, 9, 12, 5, 9),
    "medium": Ranges(12, 12, 30, 9, 20),
    "hard": Ranges(25, 30, 99, 15, 60),
}
