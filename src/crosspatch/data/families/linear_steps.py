r"""Solving `left = right` for an unknown to the first power, or `left < right`: moving terms, isolating.

What equations, inequalities, systems and word problems have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crosspatch.data.derivation import Body, Unsolvable, WorkedStep, said, shown
from crosspatch.data.marks import mark
from crosspatch.data.mistakes import Rules
from crosspatch.data.polynomial import Polynomial, Rational, number, signed, size

_TURNED = {"=": "=", "<": ">", ">": "<", r"\leq": r"\geq", r"\geq": r"\leq"}

_TIMES = r"\times"


@dataclass
class LinearSteps:
    """A solver at work: `left` and `right` are the sides as they stand, `steps` what was done."""

    left: Polynomial
    right: Polynomial
    unknown: str
    rules: Rules
    sign: str = "="
    steps: list[WorkedStep] = field(default_factory=list)

    def solved(self) -> Rational:
        """Bring the unknown to the left, the constant to the right, and isolate: what stands on the right then."""
        if self.right.linear:
            self.move_to_left(Polynomial(linear=self.right.linear))
        if self.left.constant:
            self.move_constant()
        if not self.left.linear:
            raise Unsolvable
        if self.left.linear != 1:
            self.isolate()
        return self.right.constant

    def move_to_left(self, term: Polynomial) -> None:
        """`term` leaves the right side."""
        x, before = self.unknown, self.left
        operation, arriving = self.rules.move(term, x)
        wrong = self.rules.broken("move")
        self.right = self.right - term
        self.left = before + arriving
        right = self.right.latex(x)
        lines = [f"{before.latex(x)} {_arriving(arriving, x, wrong)} {self.sign} {right}"]
        lines.append(f"{self.left.latex(x, _changed(term, wrong))} {self.sign} {right}")
        body: Body = (f"{said(operation, wrong)}:", *shown(lines))
        self.steps.append(WorkedStep("move", f"Move ${term.latex(x)}$ to the left side", body, (operation,), wrong))

    def move_constant(self) -> None:
        """The constant leaves the left side."""
        x, before = self.unknown, self.right
        term = Polynomial(constant=self.left.constant)
        operation, arriving = self.rules.move(term, x)
        wrong = self.rules.broken("move")
        self.left = self.left - term
        self.right = before + arriving
        left = self.left.latex(x)
        lines = [f"{left} {self.sign} {before.latex(x)} {_arriving(arriving, x, wrong)}"] if before else []
        # Where nothing stood on the right the sign is the term's own, and there is no other line to show it.
        result = self.right.latex(x, _changed(term, wrong))
        if not before and wrong and result.startswith("-"):
            result = mark("sign", "-") + result[1:]
        lines.append(f"{left} {self.sign} {result}")
        body: Body = (f"{said(operation, wrong)}:", *shown(lines))
        self.steps.append(WorkedStep("move", f"Move ${term.latex(x)}$ to the right side", body, (operation,), wrong))

    def isolate(self) -> None:
        """The unknown's factor goes."""
        factor, value, x = self.left.linear, self.right.constant, self.unknown
        if self.rules.broken("isolate") and not value:
            # Nothing divided or multiplied is nothing: the mistake would be said and not show.
            raise Unsolvable
        operation, result = self.rules.isolate(factor, value)
        wrong_value = self.rules.broken("isolate") and factor * factor != 1
        turn = factor < 0 and self.sign != "="
        kept = turn and self.rules.broken("turn")
        if turn and not kept:
            self.sign = _TURNED[self.sign]
        sign = mark("sign", self.sign, kept)
        operand = _factor(operation.operand)
        if operation.verb == "multiply":
            unfinished = f"{number(value)} {mark('sign', _TIMES, wrong_value)} {operand}"
        else:
            unfinished = rf"\frac{{{number(value)}}}{{{operation.operand}}}"
        lines = [f"{x} {sign} {unfinished}"]
        if unfinished != number(result):
            finished = number(size(result))
            minus = "-" if result < 0 else ""
            lines.append(f"{x} {sign} {minus}{mark('number', finished, wrong_value)}")
        turning = " and turn the sign" if turn and not kept else ""
        body: Body = (f"{said(operation, wrong_value)}{turning}:", *shown(lines))
        wrong = wrong_value or kept
        self.steps.append(WorkedStep("isolate", f"Solve for ${x}$", body, (operation,), wrong))
        self.left, self.right = Polynomial(linear=1), Polynomial(constant=result)


def _factor(operand: str) -> str:
    return f"({operand})" if operand.startswith("-") else operand


def _arriving(term: Polynomial, unknown: str, wrong: bool) -> str:
    """`+ 5x - 11`: a polynomial as it follows another, its signs marked where they are wrong."""
    sign, rest = signed(term.latex(unknown))
    text = f"{mark('sign', sign, wrong)} {rest}"
    if not wrong:
        return text
    # The signs inside of a moved polynomial are as wrong as the one before it.
    return text.replace(" + ", f" {mark('sign', '+')} ").replace(" - ", f" {mark('sign', '-')} ")


def _changed(term: Polynomial, wrong: bool) -> tuple[bool, bool, bool]:
    """Which coefficients a wrongly moved term falsifies."""
    square, linear, constant = term.coefficients
    return (wrong and bool(square), wrong and bool(linear), wrong and bool(constant))
