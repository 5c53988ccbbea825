"""Word problems that lead to a linear equation."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Solving, WorkedStep
from crosspatch.data.families.equations import Equation
from crosspatch.data.families.solving import RANGES, Solver
from crosspatch.data.latex import number
from crosspatch.data.mistakes import Broken
from crosspatch.data.polynomial import Polynomial

# The meaning of x, and the text of a·x + b = c.
ONE_SIDED = (
    ("my number", "I think of a number, multiply it by {a} and add {b}. The result is {c}. What is my number?"),
    (
        "the number of kilometres",
        "A taxi costs {b} euros and {a} euros for each kilometre. A ride costs {c} euros. How many kilometres is it?",
    ),
    (
        "the number of days",
        "Mia has {b} stickers and buys {a} more each day. After how many days does she have {c} stickers?",
    ),
    (
        "the number of months",
        "A gym asks {b} dollars once and {a} dollars a month. After how many months has Leo paid {c} dollars?",
    ),
    (
        "the weight of a bag",
        "{a} equal bags of rice and a box of {b} kilograms weigh {c} kilograms together. "
        "How many kilograms does one bag weigh?",
    ),
    (
        "the number of weeks",
        "A plant is {b} centimetres tall and grows {a} centimetres a week. "
        "In how many weeks is it {c} centimetres tall?",
    ),
)
# Texts of a·x + b = c·x + d.
TWO_SIDED = (
    (
        "the number of weeks",
        "Anna has {b} coins and saves {a} a week. Ben has {d} coins and saves {c} a week. "
        "After how many weeks do they have the same?",
    ),
    ("the number", "{a} times a number plus {b} is the same as {c} times the number plus {d}. What is the number?"),
    (
        "the number of gigabytes",
        "One phone plan costs {b} euros and {a} for each gigabyte, another {d} euros and {c} for each gigabyte. "
        "For how many gigabytes do they cost the same?",
    ),
)


@dataclass(frozen=True)
class Story(Equation):
    """A word problem and its equation, in which `wanted` is called x."""

    wanted: str = field(compare=False)
    story: str = field(compare=False)

    label = ""

    def ask(self, rng: Random) -> str:
        """Return the word problem with its numbers."""
        left, right = self.left, self.right
        return self.story.format(a=left.linear, b=left.constant, c=right.linear or right.constant, d=right.constant)

    def _work(self, broken: Broken) -> Solving:
        yield WorkedStep("set_up", f"Let $x$ be {self.wanted}", (self.given,), before=self.given)
        value = yield from Solver(self.left, self.right, "x", broken).linear()
        return number(value), (value,)


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Story:
    """Generate a word problem whose answer is a positive whole number."""
    ranges = RANGES[difficulty]
    x, a, b = rng.randint(2, ranges.solution), rng.randint(3, ranges.factor), rng.randint(2, ranges.constant)
    left = Polynomial(linear=a, constant=b)
    if rng.random() < 0.6:
        return Story(left, Polynomial(constant=a * x + b), "x", *rng.choice(ONE_SIDED))
    # The person who saves less begins with more.
    less = rng.randint(2, a - 1)
    return Story(left, Polynomial(linear=less, constant=b + (a - less) * x), "x", *rng.choice(TWO_SIDED))
