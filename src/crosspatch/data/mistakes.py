"""The rules of a solver, and the mistakes: each breaks some of the rules, wherever they apply.

A mistaken solver is consistent: it breaks its rules everywhere and everything else follows from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crosspatch.config import MistakeName
from crosspatch.data.polynomial import Polynomial, Rational, divided, number
from crosspatch.data.problem import Operation

Rule = Literal[
    "move",  # a term that changes sides changes its sign
    "isolate",  # a factor of the unknown is divided by
    "bracket",  # a minus before a bracket turns every sign in it
    "order",  # multiplications and divisions come before additions and subtractions
    "denominator",  # fractions are brought to one denominator before they are added
    "exponent",  # exponents are added where powers are multiplied
    "roots",  # roots of different numbers are not added under one root
    "turn",  # an inequality is turned where it is multiplied or divided by a negative number
    "formula",  # the quadratic formula begins with -b
    "power",  # the exponent goes down by one in a derivative, and up in an integral
    "ratio",  # a proportion keeps what belongs together on one side
    "base",  # a percentage is taken of what it was said of
    "converse",  # from "all A are B" it does not follow that all B are A
]


@dataclass(frozen=True)
class Mistake:
    """What a mistaken solver does, and the rules that it breaks."""

    name: MistakeName
    does: str
    breaks: frozenset[Rule]


MISTAKES: dict[str, Mistake] = {
    mistake.name: mistake
    for mistake in (
        Mistake(
            "inverted_operation",
            "adds where a term has to be subtracted and the reverse, multiplies where it has to be divided (the paper)",
            frozenset({"move", "isolate"}),
        ),
        Mistake("added_for_subtracted", "keeps the sign of a term that changes sides", frozenset({"move"})),
        Mistake("multiplied_for_divided", "multiplies by the factor that has to be divided by", frozenset({"isolate"})),
        Mistake("bracket_sign_lost", "keeps the signs behind a minus and a bracket", frozenset({"bracket"})),
        Mistake("order_ignored", "calculates from left to right", frozenset({"order"})),
        Mistake("denominators_added", "adds numerators and denominators of fractions", frozenset({"denominator"})),
        Mistake("exponents_multiplied", "multiplies exponents that have to be added", frozenset({"exponent"})),
        Mistake("roots_added", "adds what stands under different roots", frozenset({"roots"})),
        Mistake("inequality_not_turned", "keeps < when dividing by a negative number", frozenset({"turn"})),
        Mistake("formula_sign", "begins the quadratic formula with b for -b", frozenset({"formula"})),
        Mistake("power_kept", "keeps the exponent when differentiating or integrating", frozenset({"power"})),
        Mistake("ratio_turned", "turns one side of a proportion over", frozenset({"ratio"})),
        Mistake("wrong_base", "takes a percentage of the wrong amount", frozenset({"base"})),
        Mistake("converse", "concludes from the converse", frozenset({"converse"})),
    )
}


@dataclass(frozen=True)
class Rules:
    """The rules by which a solver works: all right, or broken by one mistake."""

    mistake: Mistake | None = None

    def broken(self, rule: Rule) -> bool:
        """Whether this solver gets the rule wrong."""
        return self.mistake is not None and rule in self.mistake.breaks

    def move(self, term: Polynomial, unknown: str) -> tuple[Operation, Polynomial]:
        """What is said to be done with both sides to move `term` away, and what arrives on the other side."""
        removing, broken = term.leading > 0, self.broken("move")
        verb = "subtract" if removing != broken else "add"
        return Operation(verb, (term if removing else -term).latex(unknown)), term if broken else -term

    def isolate(self, coefficient: Rational, value: Rational) -> tuple[Operation, Rational]:
        """How `coefficient`·x = `value` is solved: the operation, and what it makes of the value.

        A factor 1/k is multiplied by k, so a mistaken solver divides by k.
        """
        over = abs(coefficient.numerator) == 1 and coefficient.denominator > 1
        operand = number(divided(1, coefficient) if over else coefficient)
        broken = self.broken("isolate")
        verb = "multiply" if over != broken else "divide"
        return Operation(verb, operand), value * coefficient if broken else divided(value, coefficient)


RIGHT = Rules()
