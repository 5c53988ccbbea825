"""Proportions and percentages as short word problems."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Solving, WorkedStep
from crosspatch.data.families.solving import Solver
from crosspatch.data.latex import Rational, mark, number
from crosspatch.data.mistakes import Broken
from crosspatch.data.polynomial import Polynomial, divided

_LARGEST: dict[Difficulty, tuple[int, int]] = {"easy": (9, 9), "medium": (15, 20), "hard": (40, 60)}

THINGS = ("coat", "bicycle", "lamp", "phone", "table", "camera", "guitar", "tent", "watch", "printer")


@dataclass(frozen=True)
class Proportion(Exercise):
    """`count` things have the total `amount`; what is the total of `wanted` things?"""

    count: int
    amount: int
    wanted: int

    tag = ("proportion",)
    wordings = (
        "{count} pencils cost {amount} coins. How many coins do {wanted} pencils cost?",
        "If {count} tickets cost {amount} euros, how many euros do {wanted} tickets cost?",
        "{count} identical boxes weigh {amount} kilograms. How many kilograms do {wanted} such boxes weigh?",
        "A machine fills {amount} bottles in {count} minutes. How many bottles does it fill in {wanted} minutes?",
        "A car uses {amount} litres of fuel for {count} laps. How many litres does it use for {wanted} laps?",
        "A recipe for {count} cakes needs {amount} spoons of sugar. How many spoons do {wanted} cakes need?",
    )

    def _given(self) -> str:
        return rf"\frac{{x}}{{{self.wanted}}} = \frac{{{self.amount}}}{{{self.count}}}"

    def admits(self, value: Rational) -> bool:
        """Whether the cross products are equal."""
        return value * self.count == self.amount * self.wanted

    def _work(self, broken: Broken) -> Solving:
        """Set both ratios equal; multiply by the denominator of the unknown."""
        wrong = "ratio" in broken
        over, under = (self.count, self.amount) if wrong else (self.amount, self.count)
        tops = [mark("number", str(n), wrong) for n in (over, under)]
        set_up = rf"\frac{{x}}{{{self.wanted}}} = \frac{{{tops[0]}}}{{{tops[1]}}}"
        title = "Let $x$ be what is wanted: the ratios are the same"
        yield WorkedStep("set_up", title, (set_up,), before=self.given)
        ratio = divided(over, under)
        if ratio != over or under != 1:
            yield WorkedStep("reduce", "Reduce the fraction", (rf"\frac{{x}}{{{self.wanted}}} = {number(ratio)}",))
        left = Polynomial(linear=Fraction(1, self.wanted))
        value = yield from Solver(left, Polynomial(constant=ratio), "x", broken).linear()
        return number(value), (value,)


@dataclass(frozen=True)
class PriceBefore(Exercise):
    """After a rise (`sign` 1) or fall (-1) of `percent` the price is `after`; what was it before?"""

    sign: int
    percent: int
    after: int

    tag = ("before",)
    wordings = (
        "After a {change} of {percent}% the price of a {thing} is {after} dollars. "
        "What was its price in dollars before?",
        "The price of a {thing} is {after} dollars after a {change} of {percent}%. How many dollars was it before?",
        "A {thing} costs {after} dollars after its price had a {change} of {percent}%. "
        "What did it cost in dollars before that?",
    )

    def _given(self) -> str:
        return rf"x {_sign(self.sign)} \frac{{{self.percent}}}{{100}}x = {self.after}"

    def _names(self, rng: Random) -> dict[str, object]:
        return {"thing": rng.choice(THINGS), "change": _change(self.sign)}

    def admits(self, value: Rational) -> bool:
        """Whether the change turns this price into `after`."""
        return value * (100 + self.sign * self.percent) == 100 * self.after

    def _work(self, broken: Broken) -> Solving:
        """Write the equation for the price before, of which the change is a percentage; then solve it."""
        part = divided(self.sign * self.percent, 100)
        if "base" in broken:
            after = mark("number", str(self.after))
            set_up = rf"x {_sign(self.sign)} \frac{{{self.percent}}}{{100}} \cdot {after} = {self.after}"
            left, base = Polynomial(linear=1, constant=part * self.after), f"{mark('word', 'new')} price"
        else:
            left, base, set_up = Polynomial(linear=1 + part), "price before, $x$", self.given
        yield WorkedStep("set_up", f"The {self.percent}% is of the {base}", (set_up,), before=self.given)
        yield WorkedStep("combine", "Combine", (f"{left.latex('x')} = {self.after}",))
        value = yield from Solver(left, Polynomial(constant=self.after), "x", broken).linear()
        return number(value), (value,)


@dataclass(frozen=True)
class TwoChanges(Exercise):
    """A `price` changes by `first` %, then by `second` % of the new price; a negative change is a fall."""

    price: int
    first: int
    second: int

    tag = ("changes",)
    wordings = (
        "A {thing} costs {price} dollars. Its price has a {change} of {p}%, and then a {other} of {q}% of the new "
        "price. What does it cost in dollars now?",
        "The price of a {thing} is {price} dollars. After a {change} of {p}% there is a {other} of {q}% of the new "
        "price. How many dollars is it then?",
    )
    label, relation = "We calculate", "value"

    def _given(self) -> str:
        return rf"{self.price} \cdot {self._factor(self.first)} \cdot {self._factor(self.second)}"

    def _names(self, rng: Random) -> dict[str, object]:
        changes = {"change": _change(self.first), "other": _change(self.second)}
        return {"thing": rng.choice(THINGS), "p": abs(self.first), "q": abs(self.second), **changes}

    def admits(self, value: Rational) -> bool:
        """Whether the value is the price times both factors."""
        return value * 10_000 == self.price * (100 + self.first) * (100 + self.second)

    def _work(self, broken: Broken) -> Solving:
        """Compute one change after the other."""
        wrong, percent = "base" in broken, abs(self.second)
        new = divided(self.price * (100 + self.first), 100)
        base = self.price if wrong else new
        value = new + divided(base * self.second, 100)
        title, line = f"The first change is {abs(self.first)}% of {self.price}", self._factor(self.second)
        yield WorkedStep("first_change", title, (rf"{number(new)} \cdot {line}",))
        title = f"The second change is {percent}% of the {mark('word', 'old') if wrong else 'new'} price"
        share = rf"\frac{{{percent}}}{{100}} \cdot {mark('number', number(base), wrong)}"
        yield WorkedStep("second_change", title, (f"{number(new)} {_sign(self.second)} {share}",))
        yield WorkedStep("calculate", "Calculate", (number(value),))
        return number(value), (value,)

    def _factor(self, percent: int) -> str:
        return rf"(1 {_sign(percent)} \frac{{{abs(percent)}}}{{100}})"


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """Generate a proportion with a whole answer, or one of two kinds of percentage problems."""
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


def _sign(change: int) -> str:
    return "+" if change > 0 else "-"


def _change(change: int) -> str:
    return "rise" if change > 0 else "fall"
