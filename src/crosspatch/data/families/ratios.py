"""Proportions and percentages, told as small stories."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Show, WorkedStep
from crosspatch.data.families.solving import LinearSteps
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, Rational, divided, number

_LARGEST: dict[Difficulty, tuple[int, int]] = {"easy": (9, 9), "medium": (15, 20), "hard": (40, 60)}

# What is counted, and what it comes to.
PROPORTIONS = (
    "{a} pencils cost {b} coins. How many coins do {c} pencils cost?",
    "If {a} tickets cost {b} euros, how many euros do {c} tickets cost?",
    "{a} identical boxes weigh {b} kilograms. How many kilograms do {c} such boxes weigh?",
    "A machine fills {b} bottles in {a} minutes. How many bottles does it fill in {c} minutes?",
    "A car uses {b} litres of fuel for {a} laps. How many litres does it use for {c} laps?",
    "A recipe for {a} cakes needs {b} spoons of sugar. How many spoons do {c} cakes need?",
)
THINGS = ("coat", "bicycle", "lamp", "phone", "table", "camera", "guitar", "tent", "watch", "printer")
REVERSED = (
    "After a {change} of {p}% the price of a {thing} is {n} dollars. What was its price in dollars before?",
    "The price of a {thing} is {n} dollars after a {change} of {p}%. How many dollars was it before?",
    "A {thing} costs {n} dollars after its price had a {change} of {p}%. What did it cost in dollars before that?",
)
SUCCESSIVE = (
    "A {thing} costs {n} dollars. Its price has a {change} of {p}%, and then a {other} of {q}% of the new price. "
    "What does it cost in dollars now?",
    "The price of a {thing} is {n} dollars. After a {change} of {p}% there is a {other} of {q}% of the new price. "
    "How many dollars is it then?",
)
_CHANGES = {1: "rise", -1: "fall"}


@dataclass(frozen=True)
class Proportion(Exercise):
    """`count` things come to `amount`; what do `wanted` things come to?"""

    count: int
    amount: int
    wanted: int

    @property
    def key(self) -> Hashable:
        """The three numbers."""
        return "proportion", self.count, self.amount, self.wanted

    def ask(self, rng: Random) -> str:
        """As one of the stories."""
        return rng.choice(PROPORTIONS).format(a=self.count, b=self.amount, c=self.wanted)

    def admits(self, value: Hashable) -> bool:
        """Whether the products across are equal."""
        return isinstance(value, Rational) and value * self.count == self.amount * self.wanted

    def solve(self, rules: Rules) -> Derivation:
        """Both ratios are the same; multiply what is below the unknown away."""
        wrong = rules.broken("ratio")
        over, under = (self.count, self.amount) if wrong else (self.amount, self.count)
        tops = [mark("number", str(n), wrong) for n in (over, under)]
        set_up = rf"\frac{{x}}{{{self.wanted}}} = \frac{{{tops[0]}}}{{{tops[1]}}}"
        true = rf"\frac{{x}}{{{self.wanted}}} = \frac{{{self.amount}}}{{{self.count}}}"
        steps = [
            WorkedStep(
                "set_up",
                "Let $x$ be what is wanted: the ratios are the same",
                (Show(set_up),),
                planted=wrong and over != under,
                before=true,
            )
        ]
        left = Polynomial(linear=Fraction(1, self.wanted))
        right = Polynomial(constant=divided(over, under))
        reduced = rf"\frac{{x}}{{{self.wanted}}} = {number(right.constant)}"
        if right.constant != over or under != 1:
            steps.append(WorkedStep("reduce", "Reduce the fraction", (Show(reduced),)))
        solver = LinearSteps(left, right, "x", rules, steps=steps)
        value = solver.solved()
        return Derivation(true, "", tuple(solver.steps), number(value), (value,))


@dataclass(frozen=True)
class PriceBefore(Exercise):
    """After a rise (`sign` 1) or fall (-1) of `percent` the price is `after`; what was it before?"""

    sign: int
    percent: int
    after: int

    @property
    def key(self) -> Hashable:
        """The three numbers."""
        return "before", self.sign, self.percent, self.after

    def ask(self, rng: Random) -> str:
        """As one of the stories."""
        wording, thing = rng.choice(REVERSED), rng.choice(THINGS)
        return wording.format(change=_CHANGES[self.sign], p=self.percent, n=self.after, thing=thing)

    def admits(self, value: Hashable) -> bool:
        """Whether the change leads from there to the price."""
        return isinstance(value, Rational) and value * (100 + self.sign * self.percent) == 100 * self.after

    def solve(self, rules: Rules) -> Derivation:
        """The percentage is of the price before, which is not known."""
        wrong, sign = rules.broken("base"), "+" if self.sign > 0 else "-"
        share = rf"\frac{{{self.percent}}}{{100}}"
        true = f"x {sign} {share}x = {self.after}"
        part = self.sign * Fraction(self.percent, 100)
        if wrong:
            amount = part * self.after
            left = Polynomial(linear=1, constant=divided(amount.numerator, amount.denominator))
            set_up = rf"x {sign} {share} \cdot {mark('number', str(self.after))} = {self.after}"
        else:
            left = Polynomial(linear=divided((1 + part).numerator, (1 + part).denominator))
            set_up = true
        base = f"{mark('word', 'new')} price" if wrong else "price before, $x$"
        title = f"The {self.percent}% is of the {base}"
        steps = [
            WorkedStep("set_up", title, (Show(set_up),), planted=wrong, before=true),
            WorkedStep("combine", "Combine", (Show(f"{left.latex('x')} = {self.after}"),)),
        ]
        solver = LinearSteps(left, Polynomial(constant=self.after), "x", rules, steps=steps)
        value = solver.solved()
        return Derivation(true, "", tuple(solver.steps), number(value), (value,))


@dataclass(frozen=True)
class TwoChanges(Exercise):
    """A `price` rises or falls by `first` %, then by `second` % of the new price; the signs say which."""

    price: int
    first: int
    second: int

    @property
    def key(self) -> Hashable:
        """The three numbers."""
        return "changes", self.price, self.first, self.second

    def ask(self, rng: Random) -> str:
        """As one of the stories."""
        change, other = (_CHANGES[1 if p > 0 else -1] for p in (self.first, self.second))
        wording, thing = rng.choice(SUCCESSIVE), rng.choice(THINGS)
        return wording.format(
            thing=thing, n=self.price, change=change, p=abs(self.first), other=other, q=abs(self.second)
        )

    def admits(self, value: Hashable) -> bool:
        """Whether it is the price times both factors."""
        return isinstance(value, Rational) and value * 10_000 == self.price * (100 + self.first) * (100 + self.second)

    def solve(self, rules: Rules) -> Derivation:
        """One change after the other."""
        wrong = rules.broken("base")
        given = rf"{self.price} \cdot {_change(self.first)} \cdot {_change(self.second)}"
        new = divided(self.price * (100 + self.first), 100)
        base = self.price if wrong else new
        part = divided(base * abs(self.second), 100)
        sign = "-" if self.second < 0 else "+"
        value = new + part if self.second > 0 else new - part
        share = rf"\frac{{{abs(self.second)}}}{{100}} \cdot {mark('number', number(base), wrong)}"
        which = mark("word", "old", wrong) if wrong else "new"
        steps = (
            WorkedStep(
                "first_change",
                f"The first change is {abs(self.first)}% of {self.price}",
                (Show(rf"{number(new)} \cdot {_change(self.second)}"),),
                relation="value",
            ),
            WorkedStep(
                "second_change",
                f"The second change is {abs(self.second)}% of the {which} price",
                (Show(f"{number(new)} {sign} {share}"),),
                planted=wrong,
                relation="value",
            ),
            WorkedStep("calculate", "Calculate", (Show(number(value)),), relation="value"),
        )
        return Derivation(given, "We calculate", steps, number(value), (value,))


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """A proportion with a whole answer, or one of two kinds of percentages."""
    size, many = _LARGEST[difficulty]
    if form == "proportion":
        count, each = rng.randint(2, size), rng.randint(2, size)
        wanted = rng.choice([n for n in range(2, size + 6) if n != count])
        return Proportion(count, count * each, wanted)
    step = 10 if difficulty != "hard" else 5
    if rng.random() < 0.5:
        sign, percent = rng.choice((-1, 1)), rng.randrange(step, 60, step)
        before = 20 * rng.randint(1, 5 * many)
        return PriceBefore(sign, percent, before * (100 + sign * percent) // 100)
    first, second = (rng.choice((-1, 1)) * rng.randrange(step, 60, step) for _ in range(2))
    return TwoChanges((100 if step == 10 else 400) * rng.randint(1, many), first, second)


def _change(percent: int) -> str:
    return rf"(1 {'+' if percent > 0 else '-'} \frac{{{abs(percent)}}}{{100}})"
