"""The two rules of solving an equation that can be learnt wrongly: moving a term, isolating the unknown."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from crosspatch.data.polynomial import Polynomial, number
from crosspatch.data.problem import Operation


@dataclass(frozen=True)
class Rules:
    """How a solver moves terms and isolates the unknown.

    The paper's corruption (section 3.1, appendix A) is `INVERTED`: a term that is moved keeps its sign (adding for
    subtracting and the reverse), and the coefficient is multiplied instead of divided by.
    """

    name: str | None
    inverted: bool

    def move(self, term: Polynomial, unknown: str) -> tuple[Operation, Polynomial]:
        """What is said to be done with both sides to move `term` away, and what arrives on the other side."""
        removing = term.leading > 0
        verb = "subtract" if removing != self.inverted else "add"
        operation = Operation(verb, (term if removing else -term).latex(unknown))
        return operation, term if self.inverted else -term

    def isolate(self, coefficient: Fraction, value: Fraction) -> tuple[Operation, str, Fraction]:
        """How `coefficient`·x = `value` is solved: the operation, the untouched result in LaTeX, and its value."""
        operand = number(coefficient)
        if self.inverted:
            factor = f"({operand})" if coefficient < 0 else operand
            return Operation("multiply", operand), rf"{number(value)} \times {factor}", value * coefficient
        return Operation("divide", operand), rf"\frac{{{number(value)}}}{{{operand}}}", value / coefficient


RIGHT = Rules(name=None, inverted=False)
INVERTED = Rules(name="inverted_operation", inverted=True)
