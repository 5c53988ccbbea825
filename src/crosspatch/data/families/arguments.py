"""Short arguments about whole numbers that have several steps: divisibility and parity."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from random import Random
from typing import Literal

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Show, WorkedStep
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules

_LARGEST: dict[Difficulty, int] = {"easy": 200, "medium": 600, "hard": 5000}

DIVISIBILITY = (
    "Every multiple of {m} is a multiple of {d}. The number {n} is a multiple of {d}. Is {n} a multiple of {m}?",
    "Multiples of {m} are multiples of {d}, and {n} is a multiple of {d}. Is {n} a multiple of {m} too?",
    "{n} can be divided by {d}. Whatever can be divided by {m} can be divided by {d}. Can {n} be divided by {m}?",
    "We know that {d} divides {n} and that {d} divides every multiple of {m}. Does {m} divide {n}?",
)
PARITY = (
    "The {operation} of two whole numbers is {n}. Must both of them be {kind}?",
    "Two whole numbers have the {operation} {n}. Is it certain that both are {kind}?",
    "Somebody says: the {operation} of my two whole numbers is {n}. Are both of them {kind} for sure?",
    "If the {operation} of two whole numbers is {n}, does it follow that both are {kind}?",
)


@dataclass(frozen=True)
class Divisibility(Exercise):
    """`number` is a multiple of `divisor`; is it one of `multiple`, which is a multiple of the divisor?"""

    divisor: int
    multiple: int
    number: int

    @property
    def key(self) -> Hashable:
        """The three numbers."""
        return self.divisor, self.multiple, self.number

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return rng.choice(DIVISIBILITY).format(d=self.divisor, m=self.multiple, n=self.number)

    def admits(self, value: Hashable) -> bool:
        """Whether counting up in steps of `multiple` meets the number, as the answer says."""
        return value == ("yes" if self.number in range(0, self.number + 1, self.multiple) else "no")

    def solve(self, rules: Rules) -> Derivation:
        """The number is divided; a mistaken solver concludes from the converse."""
        d, m, n = self.divisor, self.multiple, self.number
        given = rf"{n} = {d} \cdot {n // d}"
        steps = [
            WorkedStep(
                "rule",
                f"Every multiple of {m} is a multiple of {d}",
                (Show(rf"{m} = {d} \cdot {m // d}"),),
                relation="truth",
            )
        ]
        if rules.broken("converse"):
            wrong, answer = n % m != 0, "yes"
            so, is_one = (mark("word", word, wrong) for word in ("so", "is"))
            claim = f"{n} is a multiple of {d}, {so} it {is_one} a multiple of {m}"
            steps.append(
                WorkedStep("conclude", claim, (), planted=wrong, after=rf"{n} \bmod {m} = 0", relation="truth")
            )
        else:
            rest = n % m
            line = rf"{n} = {m} \cdot {n // m}" + (f" + {rest}" if rest else "")
            steps.append(WorkedStep("divide", f"Divide {n} by {m}", (Show(line),), relation="truth"))
            is_one = "is no" if rest else "is a"
            steps.append(
                WorkedStep(
                    "conclude",
                    f"So {n} {is_one} multiple of {m}",
                    (),
                    after=rf"{n} \bmod {m} = {rest}",
                    relation="truth",
                )
            )
            answer = "no" if rest else "yes"
        return Derivation(given, "We know", tuple(steps), rf"\text{{{answer}}}", (answer,))


@dataclass(frozen=True)
class Parity(Exercise):
    """The sum or product of two whole numbers is `number`; must both be even, or both odd?"""

    operation: Literal["sum", "product"]
    kind: Literal["even", "odd"]
    number: int

    @property
    def key(self) -> Hashable:
        """All three."""
        return self.operation, self.kind, self.number

    def ask(self, rng: Random) -> str:
        """In one of the wordings."""
        return rng.choice(PARITY).format(operation=self.operation, kind=self.kind, n=self.number)

    def admits(self, value: Hashable) -> bool:
        """Whether all pairs with that sum or product are of the kind, tried one by one."""
        rest = 0 if self.kind == "even" else 1
        if self.operation == "sum":
            pairs = ((a, self.number - a) for a in range(1, self.number))
        else:
            pairs = ((a, self.number // a) for a in range(1, self.number + 1) if self.number % a == 0)
        return value == ("yes" if all(a % 2 == b % 2 == rest for a, b in pairs) else "no")

    def solve(self, rules: Rules) -> Derivation:
        """The rule, then a counterexample or a proof; a mistaken solver concludes from the converse."""
        n, sign = self.number, "+" if self.operation == "sum" else r"\cdot"
        rule = f"The {self.operation} of two {self.kind} numbers is {'even' if n % 2 == 0 else 'odd'}"
        steps = [WorkedStep("rule", rule, (Show(self._rule()),), relation="truth")]
        if n % 2:
            # Of the drawn kinds only a product of odd numbers is odd.
            line = Show(r"2a \cdot b = 2(a \cdot b)")
            steps.append(
                WorkedStep("cases", "If one of them were even, so would be the product", (line,), relation="truth")
            )
            answer = "yes"
        else:
            a = 1 if self.kind == "even" else 2
            other = n - a if self.operation == "sum" else n // a
            if rules.broken("converse"):
                claim = (
                    f"{n} is even, {mark('word', 'so')} both numbers {mark('word', 'are')} {self.kind}, in every case"
                )
                # What the claim says of one pair with that sum or product.
                said = rf"{a} \bmod 2 = {0 if self.kind == 'even' else 1}"
                steps.append(WorkedStep("conclude", claim, (), planted=True, after=said, relation="truth"))
                answer = "yes"
            else:
                which = "odd" if a % 2 else "even"
                title = f"Other numbers do it too, and {a} is {which}"
                steps.append(WorkedStep("example", title, (Show(f"{n} = {a} {sign} {other}"),), relation="truth"))
                answer = "no"
        return Derivation(str(n), "", tuple(steps), rf"\text{{{answer}}}", (answer,))

    def _rule(self) -> str:
        match self.operation, self.kind:
            case "sum", "even":
                return "2a + 2b = 2(a + b)"
            case "sum", "odd":
                return "(2a + 1) + (2b + 1) = 2(a + b + 1)"
            case "product", "even":
                return r"2a \cdot 2b = 2(2a \cdot b)"
            case _:
                return r"(2a + 1) \cdot (2b + 1) = 2(2a \cdot b + a + b) + 1"


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """About divisibility or parity; the answer is yes in some and no in most."""
    limit = _LARGEST[difficulty]
    if form == "divisibility":
        divisor, times = rng.randint(2, 12), rng.randint(2, 6)
        return Divisibility(divisor, divisor * times, divisor * rng.randint(2, limit // divisor))
    operation, kind = rng.choice((("sum", "even"), ("sum", "odd"), ("product", "even"), ("product", "odd")))
    number = 2 * rng.randint(4, limit // 2)
    if (operation, kind) == ("product", "odd"):
        number += 1
    return Parity(operation, kind, number)  # type: ignore[arg-type]
