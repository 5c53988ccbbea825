"""The training, validation and held-out problems of one experiment, proven and disjoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

from tqdm import tqdm

from crosspatch.config import Data, Form
from crosspatch.data import proof
from crosspatch.data.equations import ask, draw_equation
from crosspatch.data.mistakes import INVERTED, RIGHT
from crosspatch.data.problem import Problem
from crosspatch.data.solutions import Equation, Solution, Unsolvable, solve


@dataclass(frozen=True)
class Splits:
    """Wrong solutions to train on, right ones to validate on, and held-out problems of the same forms."""

    train: list[Problem]
    validation: list[Problem]
    related: list[Problem]


def make_splits(settings: Data, seed: int) -> Splits:
    """Draw all three splits; no equation stands in two of them, whatever its unknown or wording."""
    rng = Random(seed)
    source = _distinct_equations(settings.forms, rng)

    def take(count: int, domain: str, *, wrong: bool) -> list[Problem]:
        # Two seconds' work: a bar on a terminal, nothing in a log.
        drawn = tqdm(islice(source, count), desc=f"{domain} problems", total=count, leave=False, disable=None)
        return [
            _problem(f"{domain}-{i:03d}", domain, form, equation, right, planted, rng, wrong=wrong)
            for i, (form, equation, right, planted) in enumerate(drawn)
        ]

    return Splits(
        train=take(settings.train, "train", wrong=True),
        validation=take(settings.validation, "validation", wrong=False),
        related=take(settings.related, "related", wrong=False),
    )


def _distinct_equations(forms: tuple[Form, ...], rng: Random) -> Iterator[tuple[Form, Equation, Solution, Solution]]:
    """Equations of the forms in turn, with the right and the wrong solution, both proven; none twice."""
    seen = set()
    for form in cycle(forms):
        while True:
            equation = draw_equation(form, rng)
            key = (equation.left, equation.right)
            if key in seen:
                continue
            try:
                right, planted = solve(equation, RIGHT), solve(equation, INVERTED)
            except Unsolvable:
                continue
            if not proof.is_right(equation.plain, equation.unknown, right.answer):
                raise AssertionError(f"the right solution of {equation.plain} ends in {right.answer}")
            # A mistake can reach the truth by chance (x² = 25 with both signs turned): not an example of it.
            if proof.is_wrong(equation.plain, equation.unknown, planted.answer):
                seen.add(key)
                yield form, equation, right, planted
                break


def _problem(
    name: str,
    domain: str,
    form: Form,
    equation: Equation,
    right: Solution,
    planted: Solution,
    rng: Random,
    *,
    wrong: bool,
) -> Problem:
    solution = planted if wrong else right
    return Problem(
        id=name,
        domain=domain,
        family=form,
        question=ask(equation, rng),
        answer=right.answer,
        solution=solution.text,
        reached=solution.answer,
        mistake=INVERTED.name if wrong else None,
        steps=solution.steps,
        right_operations=right.operations,
        planted_operations=planted.operations,
    )
