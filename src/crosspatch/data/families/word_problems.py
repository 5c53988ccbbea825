"""Stories that lead to a linear equation."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Show, WorkedStep
from crosspatch.data.families.equations import vanishes
from crosspatch.data.families.solving import RANGES, LinearSteps
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, number

# With the equation a·x + b = c.
ONE_SIDED: tuple[tuple[str, str], ...] = (
    ("I think of a number, multiply it by {a} and add {b}. The result is {c}. What is my number?", "my number"),
    (
        "A taxi costs {b} euros and {a} euros for each kilometre. A ride costs {c} euros. How many kilometres is it?",
        "the number of kilometres",
    ),
    (
        "Mia has {b} stickers and buys {a} more each day. After how many days does she have {c} stickers?",
        "the number of days",
    ),
    (
        "A gym asks {b} dollars once and {a} dollars a month. After how many months has Leo paid {c} dollars?",
        "the number of months",
    ),
    (
        "{a} equal bags of rice and a box of {b} kilograms weigh {c} kilograms together. How many kilograms does one "
        "bag weigh?",
        "the weight of a bag",
    ),
    (
        "A plant is {b} centimetres tall and grows {a} centimetres a week. In how many weeks is it {c} centimetres "
        "tall?",
        "the number of weeks",
    ),
)
# With the equation a·x + b = c·x + d.
TWO_SIDED: tuple[tuple[str, str], ...] = (
    (
        "Anna has {b} coins and saves {a} a week. Ben has {d} coins and saves {c} a week. After how many weeks do "
        "they have the same?",
        "the number of weeks",
    ),
    ("{a} times a number plus {b} is the same as {c} times the number plus {d}. What is the number?", "the number"),
    (
        "One phone plan costs {b} euros and {a} for each gigabyte, another {d} euros and {c} for each gigabyte. For "
        "how many gigabytes do they cost the same?",
        "the number of gigabytes",
    ),
)


@dataclass(frozen=True)
class Story(Exercise):
    """A story and its equation, left = right; the unknown is called x."""

    left: Polynomial
    right: Polynomial
    story: str
    wanted: str

    @property
    def key(self) -> Hashable:
        """The equation, whatever the story."""
        return self.left, self.right

    def ask(self, rng: Random) -> str:
        """The story; which one it is was drawn with its numbers."""
        left, right = self.left, self.right
        return self.story.format(a=left.linear, b=left.constant, c=right.linear or right.constant, d=right.constant)

    def admits(self, value: Hashable) -> bool:
        """Whether both sides are equal there."""
        return vanishes(self.left - self.right, value)

    def solve(self, rules: Rules) -> Derivation:
        """The equation, then moving and isolating."""
        equation = f"{self.left.latex('x')} = {self.right.latex('x')}"
        set_up = WorkedStep("set_up", f"Let $x$ be {self.wanted}", (Show(equation),), before=equation)
        solver = LinearSteps(self.left, self.right, "x", rules, steps=[set_up])
        value = solver.solved()
        return Derivation(equation, "", tuple(solver.steps), number(value), (value,))


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Story:
    """A story whose answer is a whole number above 0."""
    ranges = RANGES[difficulty]
    x, a, b = rng.randint(2, ranges.solution), rng.randint(3, ranges.factor), rng.randint(2, ranges.constant)
    left = Polynomial(linear=a, constant=b)
    if rng.random() < 0.6:
        story, wanted = rng.choice(ONE_SIDED)
        return Story(left, Polynomial(constant=a * x + b), story, wanted)
    # The one who saves less has more to begin with.
    less = rng.randint(2, a - 1)
    story, wanted = rng.choice(TWO_SIDED)
    return Story(left, Polynomial(linear=less, constant=b + (a - less) * x), story, wanted)
