r"""Proof by sympy from the texts alone: is an answer right, and does a step follow from the one before?

It parses what was written as a reader would, and shares no arithmetic with the code that wrote it.
"""

import re
from functools import cache

import sympy

from crosspatch.data.problem import Step

_NAMES = {name: sympy.Symbol(name, real=True) for name in "abcdefghijklmnopqrstuvwxyzC"}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SIGNS = {r"\leq": "<=", r"\geq": ">=", "≤": "<=", "≥": ">=", r"\times": "*", r"\cdot": "*", "×": "*", "·": "*"}


# A step starts with the line that the one before ended with.
@cache
def expression(text: str) -> sympy.Expr:
    """A formula in our LaTeX, or as it stands in a question."""
    inner = r"((?:[^{}]|\{[^{}]*\})*)"
    previous = None
    while previous != text:
        previous = text
        text = re.sub(rf"\\frac\{{{inner}\}}\{{{inner}\}}", r"((\1)/(\2))", text)
        text = re.sub(rf"\\sqrt\{{{inner}\}}", r"sqrt(\1)", text)
        text = re.sub(rf"\^\{{{inner}\}}", r"**(\1)", text)
    text = re.sub(r"√(\d+)", r"sqrt(\1)", text)
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda raised: f"**{raised[0].translate(_RAISED)}", text)
    for sign, meaning in _SIGNS.items():
        text = text.replace(sign, meaning)
    text = text.replace("^", "**").replace("\\", "")
    product = r"(?<=[\da-z)])\s*(?=\()(?<!sqrt)(?<!sin)(?<!cos)(?<!ln)|(?<=\d)(?=[a-zC])|(?<=\))\s*(?=[\da-z(])"
    text = re.sub(product, "*", text)
    return sympy.sympify(text, locals={**_NAMES, "sqrt": sympy.sqrt})


def equation_in(question: str) -> str:
    """The equation in a question, its unknown called x: `5x + 3 = 18`."""
    side = r"-?\d*[a-z]?²?(?: [-+] \d*[a-z]?²?)*"
    found = re.search(rf"{side} = {side}", question)
    return re.sub("[a-z]", "x", found[0])


@cache
def solutions(state: str) -> object:
    """All real solutions of what stands there: equations parted by `;` or `or`, or an inequality."""
    state = state.replace(r"\text{ or }", " or ").replace(r"\text{ and }", ";")
    if " or " in state:
        return frozenset().union(*(solutions(part) for part in state.split(" or ")))
    if r"\pm" in state:
        return solutions(state.replace(r"\pm", "+")) | solutions(state.replace(r"\pm", "-"))
    if found := re.search(r"<|>|\\[lg]eq|≤|≥", state):
        left, right = (expression(side) for side in (state[: found.start()], state[found.end() :]))
        sign = _SIGNS.get(found.group(), found.group())
        relation = sympy.Rel(left, right, sign)
        (unknown,) = relation.free_symbols
        return sympy.solve_univariate_inequality(relation, unknown, relational=False)
    equations = [sympy.Eq(*(expression(side) for side in part.split("="))) for part in state.split(";")]
    unknowns = sorted({symbol for equation in equations for symbol in equation.free_symbols}, key=str)
    found_sets = sympy.solve(equations, unknowns, dict=True)
    return frozenset(tuple(sympy.nsimplify(sympy.simplify(one[x])) for x in unknowns) for one in found_sets)


def follows(step: Step) -> bool:
    """Whether what a step claims is true."""
    match step.relation:
        case "solutions":
            return solutions(step.before) == solutions(step.after)
        case "truth":
            return _true(step.after)
        case "value":
            return _zero(expression(step.before) - expression(step.after))
        case "derivative":
            return _is_derivative(step.before, step.after)
        case "antiderivative":
            return step.after.endswith("+ C") and _is_derivative(step.after.removesuffix("+ C"), step.before)


def _is_derivative(of: str, slope: str) -> bool:
    function = expression(of)
    (unknown,) = function.free_symbols
    return _zero(sympy.diff(function, unknown) - expression(slope))


def _true(claim: str) -> bool:
    if found := re.fullmatch(r"(\d+) \\bmod (\d+) = (\d+)", claim):
        number, divisor, rest = map(int, found.groups())
        return number % divisor == rest
    left, right = claim.split("=")
    return _zero(expression(left) - expression(right))


def _zero(value: sympy.Expr) -> bool:
    return sympy.simplify(sympy.expand(value)) == 0
