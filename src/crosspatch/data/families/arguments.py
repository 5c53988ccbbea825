"""Arguments about whole numbers: divisibility and parity."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from crosspatch.config import Difficulty
from crosspatch.data.derivation import Exercise, Solving, WorkedStep
from crosspatch.data.latex import mark
from crosspatch.data.mistakes import Broken

_LARGEST: dict[Difficulty, int] = {"easy": 200, "medium": 600, "hard": 5000}
# The proof for each operation and kind of numbers.
_PROOFS = {
    ("sum", "even"): "2a + 2b = 2(a + b)",
    ("sum", "odd"): "(2a + 1) + (2b + 1) = 2(a + b + 1)",
    ("product", "even"): r"2a \cdot 2b = 2(2a \cdot b)",
    ("product", "odd"): r"(2a + 1) \cdot (2b + 1) = 2(2a \cdot b + a + b) + 1",
}


@dataclass(frozen=True)
class Divisibility(Exercise):
    """`number` is a multiple of `divisor`, and `multiple` is too; is `number` a multiple of `multiple`?"""

    divisor: int
    multiple: int
    number: int

    wordings = (
        "Every multiple of {multiple} is a multiple of {divisor}. The number {number} is a multiple of {divisor}. "
        "Is {number} a multiple of {multiple}?",
        "Multiples of {multiple} are multiples of {divisor}, and {number} is a multiple of {divisor}. "
        "Is {number} a multiple of {multiple} too?",
        "{number} can be divided by {divisor}. Whatever can be divided by {multiple} can be divided by {divisor}. "
        "Can {number} be divided by {multiple}?",
        "We know that {divisor} divides {number} and that {divisor} divides every multiple of {multiple}. "
        "Does {multiple} divide {number}?",
    )
    label, relation = "We know", "truth"

    def _given(self) -> str:
        return rf"{self.number} = {self.divisor} \cdot {self.number // self.divisor}"

    def admits(self, value: str) -> bool:
        """Whether the answer agrees with counting up to the number in steps of `multiple`."""
        return value == ("yes" if self.number in range(0, self.number + 1, self.multiple) else "no")

    def _work(self, broken: Broken) -> Solving:
        """Divide the number; a mistaken solver concludes from the converse."""
        d, m, n = self.divisor, self.multiple, self.number
        times, rest = divmod(n, m)
        yield WorkedStep("rule", f"Every multiple of {m} is a multiple of {d}", (rf"{m} = {d} \cdot {m // d}",))
        if "converse" in broken:
            so, is_one = (mark("word", word, rest != 0) for word in ("so", "is"))
            claim = f"{n} is a multiple of {d}, {so} it {is_one} a multiple of {m}"
            yield WorkedStep("conclude", claim, after=rf"{n} \bmod {m} = 0")
            return _answer("yes")
        yield WorkedStep(
            "divide", f"Divide {n} by {m}", (rf"{n} = {m} \cdot {times}" + (f" + {rest}" if rest else ""),)
        )
        claim = f"So {n} {'is no' if rest else 'is a'} multiple of {m}"
        yield WorkedStep("conclude", claim, after=rf"{n} \bmod {m} = {rest}")
        return _answer("no" if rest else "yes")


@dataclass(frozen=True)
class Parity(Exercise):
    """The sum or product (`operation`) of two whole numbers is `number`; must both be even, or odd (`kind`)?"""

    operation: str
    kind: str
    number: int

    wordings = (
        "The {operation} of two whole numbers is {number}. Must both of them be {kind}?",
        "Two whole numbers have the {operation} {number}. Is it certain that both are {kind}?",
        "Somebody says: the {operation} of my two whole numbers is {number}. Are both of them {kind} for sure?",
        "If the {operation} of two whole numbers is {number}, does it follow that both are {kind}?",
    )
    relation = "truth"

    def _given(self) -> str:
        return str(self.number)

    def admits(self, value: str) -> bool:
        """Whether the answer agrees with trying all pairs with this sum or product."""
        n, rest = self.number, 0 if self.kind == "even" else 1
        if self.operation == "sum":
            pairs = ((a, n - a) for a in range(1, n))
        else:
            pairs = ((a, n // a) for a in range(1, n + 1) if n % a == 0)
        return value == ("yes" if all(a % 2 == b % 2 == rest for a, b in pairs) else "no")

    def _work(self, broken: Broken) -> Solving:
        """State the rule, then give a counterexample or a proof; a mistaken solver concludes from the converse."""
        n, kind = self.number, self.kind
        rule = f"The {self.operation} of two {kind} numbers is {'even' if n % 2 == 0 else 'odd'}"
        yield WorkedStep("rule", rule, (_PROOFS[self.operation, kind],))
        if n % 2:
            # An odd number is only generated as a product of odd numbers.
            title = "If one of them were even, so would be the product"
            yield WorkedStep("cases", title, (r"2a \cdot b = 2(a \cdot b)",))
            return _answer("yes")
        a, which = (1, "odd") if kind == "even" else (2, "even")
        if "converse" in broken:
            claim = f"{n} is even, {mark('word', 'so')} both numbers {mark('word', 'are')} {kind}, in every case"
            # A pair with this sum or product, which shows the claim for one case.
            yield WorkedStep("conclude", claim, after=rf"{a} \bmod 2 = {0 if kind == 'even' else 1}")
            return _answer("yes")
        pair = f"{a} + {n - a}" if self.operation == "sum" else rf"{a} \cdot {n // a}"
        yield WorkedStep("example", f"Other numbers do it too, and {a} is {which}", (f"{n} = {pair}",))
        return _answer("no")


def _answer(word: str) -> tuple[str, tuple[str]]:
    return rf"\text{{{word}}}", (word,)


def draw(form: str, rng: Random, difficulty: Difficulty = "medium") -> Exercise:
    """Generate a question about divisibility or parity; the answer is usually no."""
    limit = _LARGEST[difficulty]
    if form == "divisibility":
        divisor, times = rng.randint(2, 12), rng.randint(2, 6)
        return Divisibility(divisor, divisor * times, divisor * rng.randint(2, limit // divisor))
    operation, kind = rng.choice((*_PROOFS,))
    number = 2 * rng.randint(4, limit // 2)
    return Parity(operation, kind, number + ((operation, kind) == ("product", "odd")))
