r"""Parses and solves equations in one unknown exactly: `2(x - 3) = \frac{17 \pm \sqrt{227}}{2}`.

A side is rewritten as a Python expression, Python parses it, and sympy computes it node by node, so no intermediate
result becomes large. Text that is ambiguous, or no sum of c·xⁿ·√r, raises Unreadable.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from operator import add, mul, sub

import sympy

from crosspatch.grading.spelling import typed

X = sympy.Symbol("x")  # the unknown, whatever its name in the text

# All solutions of an equation, also complex ones; None if every number is a solution.
Solutions = frozenset[sympy.Expr] | None

LONGEST = 300  # the maximum number of characters of a side or a line
_MOST_TERMS = 12
_LARGEST_RADICAND = 10**13  # sympy finds all square factors of smaller numbers, by trial division up to 2^15
_BITS = 200  # the maximum for a numerator or denominator

_COMMANDS = {
    "frac": "frac", "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "sqrt": "sqrt", "cdot": "*", "times": "*",
    "div": "/", "pm": "±", "mp": "∓", "left": "", "right": "", "displaystyle": "",
}  # fmt: skip
_TOKEN = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|frac|sqrt|\S")
_KNOWN = re.compile(r"[0-9.]{0,29}[0-9]|frac|sqrt|[xi]|[-+*/^(){}\[\]±∓]")
# f(3), 2^2^2, the mixed number 2\frac{1}{2}, 2 3, and many signs in a row or brackets; spaces separate tokens.
_AMBIGUOUS = re.compile(
    r"x \([^x()]*\)|\^ (?:\d|[({] \d [)}]) \^|\d (?:frac|[\d.])|(?:[-+±∓] ){5}|(?:[(\[{][^(\[{]*){21}"
)
_PYTHON = [
    (r"frac (\d)(\d)(?![\d.])", r"frac { \1 } { \2 }"),
    (r"sqrt ([\d.]+)", r"sqrt { \1 }"),
    (r"(?<=[\d)\]}]) (?=[xi](?: |\Z))|(?<=[\dxi)\]}]) (?=[(\[]|frac|sqrt)", " @ "),  # a product without a sign
    # Brackets stay as nodes: _(…), [a list] or {a set}.
    (r"(?<!sqrt )\(", "_("),
    (r"[\[{]", r"(\g<0>"),
    (r"[\]}]", r"\g<0>)"),
    (r"[\d.]+", r"'\g<0>'"),
    (r"\^", "**"),
]

_NUMBER = re.compile(r"[-−+]?\s*(?:[0-9.,]+(?:/[0-9]+)?|\\[dt]?frac\s?\{-?[0-9]+\}\s?\{-?[0-9]+\})")
# The boundary between an equation and words.
_WORDS = re.compile(
    r"(?<![\\\w)}])(?!sqrt)[^\W\d_]{2,}(?:['’][^\W\d_]+)?(?![\w(^\\]|\.\d)|\\text\s?\{[^{}]*\}|\\[()\[\]]"
    r"|[:;?!$\"“”\n`|#<>≤≥⇒→∴≈]|[.,](?=\s|$)|\*\*(?!\d)"
    r"|\\(?:Rightarrow|implies|to|rightarrow|therefore|qquad|approx|[lg]eq?|neq?)(?![a-zA-Z])"
)


class Unreadable(ValueError):
    """The text is ambiguous, too large, or not mathematics of this form."""


def tokens(text: str) -> list[str]:
    """Split into numbers, letters, `frac`, `sqrt` and other signs."""
    text = typed(text).replace("**", "^").replace("{,}", ",").replace("√", r"\sqrt ").replace("π", r"\pi ")
    text = re.sub(r"\\[,;:! ]|~", " ", text)
    text = re.sub(r"\\\\?([a-zA-Z]+)", lambda command: f" {_COMMANDS.get(command[1], '?')} ", text)
    return [token if token == "," else token.replace(",", "") for token in _TOKEN.findall(text)]


@lru_cache(maxsize=4096)
def readings(text: str, unknown: str) -> tuple[sympy.Expr, ...]:
    """Parse a text to one expression in X, or to two if it has a ±; raises Unreadable."""
    if len(text) > LONGEST:
        raise Unreadable
    found = ["x" if token == unknown else "?" if token == "x" else token for token in tokens(text)]
    source = " ".join(found)
    if not all(map(_KNOWN.fullmatch, found)) or _AMBIGUOUS.search(source):
        raise Unreadable
    for pattern, replacement in _PYTHON:
        source = re.sub(pattern, replacement, source)
    upper, lower = (source.translate(str.maketrans("±∓", signs)) for signs in ("+-", "-+"))
    try:
        return tuple(_value(ast.parse(each, mode="eval").body) for each in dict.fromkeys((upper, lower)))
    except SyntaxError:
        raise Unreadable from None


def _value(node: ast.AST) -> sympy.Expr:
    """Compute a node of a Python expression as an expanded sum."""
    match node:
        case ast.Constant(str(number)):
            value = sympy.Rational(number)
        case ast.Name("x"):
            value = X
        case ast.Name("i"):
            value = sympy.I
        case ast.List([inner]) | ast.Set([inner]) | ast.Call(ast.Name("_"), [inner]) | ast.UnaryOp(ast.UAdd(), inner):
            value = _value(inner)
        case ast.UnaryOp(ast.USub(), inner):
            value = -_value(inner)
        case ast.Call(ast.Name("sqrt"), [inner]):
            value = _square_root(_value(inner))
        case ast.Call(ast.Call(ast.Name("frac"), [ast.Set([over])]), [ast.Set([under])]):
            value = _quotient(_value(over), _value(under))
        case ast.BinOp(left, operator, right):
            a, b = _value(left), _value(right)
            # 1/2x is x/2, since quotients by x are not supported; 1/2(3) and x/2x are ambiguous.
            if isinstance(operator, ast.MatMult) and _divided(left) and (a.has(X) or not b.has(X)):
                raise Unreadable
            value = _OPERATIONS[type(operator)](a, b)
        case _:
            raise Unreadable
    value = sympy.expand(value)
    sizes = [size for number in value.atoms(sympy.Rational) for size in (abs(number.p), number.q)]
    if len(_terms(value)) > _MOST_TERMS or max(sizes, default=0).bit_length() > _BITS:
        raise Unreadable
    return value


def _divided(node: ast.AST) -> bool:
    """Whether a product has a division sign."""
    match node:
        case ast.BinOp(left, ast.Mult() | ast.MatMult() | ast.Div() as operator, _):
            return isinstance(operator, ast.Div) or _divided(left)
    return False


def _terms(value: sympy.Expr) -> tuple[sympy.Expr, ...]:
    return tuple(sympy.Add.make_args(value))


def _power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    """Raise to a power from 0 to 8; raises Unreadable for others, or if the sum may become large."""
    if exponent in range(9) and len(_terms(base)) ** int(exponent) <= 1_000:
        return base**exponent
    raise Unreadable


def _quotient(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
    """Divide; raises Unreadable for division by 0, by the unknown, or by a sum of several roots."""
    if not b or b.has(X) or len(_terms(b)) > 2:
        raise Unreadable
    if len(_terms(b)) == 2:  # (p + q)(p - q) is rational
        p, q = _terms(b)
        a, b = a * (p - q), sympy.expand(p**2 - q**2)
    return sympy.expand(a / b)


_OPERATIONS = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.MatMult: mul, ast.Div: _quotient, ast.Pow: _power}


def _square_root(number: sympy.Expr) -> sympy.Expr:
    """Return the square root of a rational number; raises Unreadable for anything else."""
    if number.is_Rational and (abs(number.p * number.q) <= _LARGEST_RADICAND or sympy.sqrt(abs(number)).is_Rational):
        return sympy.sqrt(number)
    raise Unreadable


@lru_cache(maxsize=4096)
def solve(lefts: tuple[sympy.Expr, ...], rights: tuple[sympy.Expr, ...]) -> Solutions:
    """Solve an equation; each side has two readings if there is a ±. Upper signs go together, and lower signs do.

    Raises Unreadable above degree two.
    """
    pairs = zip(lefts, rights, strict=True) if len(lefts) == len(rights) else product(lefts, rights)
    return union(_solve(left - right) for left, right in pairs)


def _solve(whole: sympy.Expr) -> Solutions:
    """Return all x for which the expression is 0."""
    a, b, c = (whole.coeff(X, power) for power in (2, 1, 0))
    if sympy.expand(whole - a * X**2 - b * X - c):
        raise Unreadable
    if a:
        root = _square_root(sympy.expand(b**2 - 4 * a * c))
        return frozenset({_quotient(-b + root, 2 * a), _quotient(-b - root, 2 * a)})
    return frozenset({_quotient(-c, b)}) if b else frozenset() if c else None


def union(parts: Iterable[Solutions]) -> Solutions:
    """Combine the solutions of several equations."""
    found = frozenset[sympy.Expr]()
    for part in parts:
        if part is None:
            return None
        found |= part
    return found


@dataclass(frozen=True)
class Equation:
    """An equation as written, with its unknown (empty if it has none), its solutions, and its position in a text."""

    left: str
    right: str
    unknown: str
    solutions: Solutions
    start: int = 0
    end: int = 0

    @property
    def sides(self) -> tuple[sympy.Expr, sympy.Expr]:
        """Both sides, with the upper sign of ±."""
        return readings(self.left, self.unknown)[0], readings(self.right, self.unknown)[0]

    @property
    def values(self) -> frozenset[sympy.Expr]:
        """The solutions; empty if every number is one."""
        return self.solutions or frozenset()

    @property
    def text(self) -> str:
        """The equation as written."""
        return f"{self.left} = {self.right}" if self.right else self.left

    @property
    def finished(self) -> bool:
        """Whether the equation gives the unknown as one number, `x = 2`."""
        sides = (self.left, self.right), (self.right, self.left)
        return any(x.isalpha() and _NUMBER.fullmatch(value) for x, value in sides)

    @property
    def key(self) -> Hashable:
        """A key of the equation's two sides, regardless of the unknown's name, spacing and order of the terms.

        Brackets count: 2(x + 3) = 10 is neither the same exercise as 2x + 6 = 10 nor as 10 = 2(x + 3).
        """
        return self._side(self.left), self._side(self.right)

    def _side(self, text: str) -> Hashable:
        found = ["x" if token == self.unknown else token for token in tokens(text) if token != "*"]
        return tuple(found) if {"(", "["} & {*found} else readings(text, self.unknown)


def stated_equations(text: str) -> Iterator[Equation]:
    """Yield the equations in one unknown among the words of a text; `x = 15/5 = 3` gives two, a ± none."""
    start = 0
    for match in [*_WORDS.finditer(text), None]:
        end = match.start() if match else len(text)
        formula = text[start:end]
        letters = {token for token in tokens(formula) if token.isalpha()} - {"frac", "sqrt"} if "=" in formula else ()
        if len(letters) == 1 and len(formula) <= LONGEST:
            (unknown,) = letters
            for sides in pairwise(" ".join(side.split()) for side in formula.split("=")):
                with suppress(ValueError):
                    (left,), (right,) = (readings(side, unknown) for side in sides)
                    yield Equation(*sides, unknown, solve((left,), (right,)), start, end)
        start = match.end() if match else end
