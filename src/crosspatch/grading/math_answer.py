r"""Reads mathematical answers: one or several values, each with its name, unit and percent sign.

latex2sympy, math-verify's parser, parses each value. The rules here say what a value is, and read what it misreads: it
drops units, primes and number bases, cancels the letters of derivatives, and divides clock times. `equality` compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig

from crosspatch.grading.spelling import HELD_SIGNS, one_spelling, without_commands

# As math-verify, but without units, since the t of `5t^2 - t` is no tonne, and with upper-case letters.
_NORMALIZATION = NormalizationConfig(units=False, malformed_operators=True)
_CONVERSION = ConversionConfig(lowercase_symbols=False)

# A pattern that matches units which are written without \text.
UNITS = (
    r"(?:square|cubic|sq\.?|cu\.?)?\s*(?:units?|cm|mm|km|m|in|ft|inch(?:es)?|feet|(?:centi|milli|kilo)?met(?:er|re)s?|"
    r"degrees?|radians?|rad|dollars?|cents?|euros?|seconds?|hours?|minutes?|days?|weeks?|miles?|mph|(?:kilo)?grams?|"
    r"lit(?:er|re)s?|gallons?|quarts?|pounds?|ounces?|tons?|[hsgLNJWVAK]|k[gNJWV]|k?Pa|[kM]?Hz|"
    r"(?i:[ap]\.?m\.?)|[ckm]?m/(?:s|h|min))"
)
# A unit behind a value; behind a number, any words are a unit: 12 apples.
_UNIT = re.compile(
    rf"(?:(?<=[\d}}\w)])\s+{UNITS}"
    r"|(?<=[\d})])\s+(?:[a-zA-Z]{3,}|of|in|per|at|a)(?:\s+[a-zA-Z]{2,}){0,3}\.?)(?:\s?\^\{?[23]\}?)?$"
)
NO_SOLUTION = r"no (?:real |integer |such )*(?:solutions?|roots?|answer|numbers?|values?)\b(?: of [a-z]\b)?"
_CHOICE = re.compile(r"^\s*(?:\([A-J]\)|[A-J][).:])\s*(?=\S)")
_QUALIFIER = re.compile(r"\s(?:for (?:all|every|any|some)|where|\\forall)(?![a-zA-Z])")
_SET = re.compile(r"(^|=)\s*\\?\{((?:[^{}]|\{[^{}]*\})*?)\\?\}$")
# The beginning of {x | x > 2} without its bracket.
_BUILDER = re.compile(r"^\s*[a-zA-Z]\s*(?:=\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid(?![a-zA-Z])|\||:)(?=.*(?:[<>]|\\[lgn]e))")
_SEPARATOR = r"[,;]|\\(?:lor|vee|land|wedge)(?![a-zA-Z])|\b(?:or|and)\b"
_RELATION = re.compile(r"[<>]|\\(?:[lg]eq?|neq?)(?![a-zA-Z])")
# A left side that names a value: x, f'(x), a_{3}, \frac{dy}{dx}, \angle A, |AB|, S_1:S_2; others are equations.
_NAME = re.compile(r"(?:[a-zA-Z'|:\s]|\\[a-zA-Z]+|_(?:\w|\{[^{}]*\})|[({](?:[^(){}+*/^=-]|\\[a-z]+)*[)}])*")


@dataclass(frozen=True)
class Value:
    """One value: the name on the left side of its `=` ("" for none), the sympy object, and what was written with it.

    `based`: a number such as 101_2, whose digits are `written`, as is a clock time. `free`: a constant of integration
    was dropped.
    """

    label: str
    expr: Any
    percent: bool = False
    unit: str = ""
    based: bool = False
    written: str = ""
    free: bool = False

    @property
    def constant(self) -> bool:
        """Whether the value is an expression without symbols."""
        return isinstance(self.expr, sympy.Expr) and not self.expr.free_symbols

    @property
    def equation(self) -> bool:
        """Whether this is an equation that does not name a value: 2x + 3y = 5."""
        return isinstance(self.expr, sympy.Eq)


@dataclass(frozen=True)
class MathAnswer:
    """An answer's values, and the answer as written; `constant`: it is unique up to a constant of integration."""

    text: str
    values: tuple[Value, ...]
    constant: bool = False

    @property
    def unknowns(self) -> tuple[str, ...]:
        """The letters that an answer such as `x = 2, y = 3` gives numbers for."""
        letters = dict.fromkeys(value.label for value in self.values if re.fullmatch("[a-zA-Z]", value.label))
        return tuple(letters) if self.values[0].label in letters and self.numeric else ()

    @property
    def named(self) -> bool:
        """Whether there are several values, each with a name of its own."""
        return len({value.label for value in self.values} - {""}) == len(self.values) > 1

    @property
    def numeric(self) -> bool:
        """Whether every value is constant."""
        return all(value.constant for value in self.values)


def read_gold(gold: str) -> MathAnswer | None:
    """Parse a gold in any spelling; a gold ending in `+ C` is unique up to a constant. None if it cannot be parsed."""
    constant = re.search(r"\+\s*C\W*$", gold) is not None
    return read_answer(one_spelling(gold), constant)


def read_answer(text: str, constant: bool = False) -> MathAnswer | None:
    """Return all values of an answer in one spelling, or None if a value cannot be parsed.

    `constant`: a constant of integration at the end of a value is dropped.
    """
    text = _CHOICE.sub("", _QUALIFIER.split(text.strip(' \n\t.,;:?"').lstrip("'"))[0])
    if says_nothing(text):
        return MathAnswer(text, (Value("", sympy.S.EmptySet),))
    bare = _BUILDER.sub("", _SET.sub(r"\1\2", re.sub(r"\\in(?![a-zA-Z])", "=", text)))
    parts = [part for part in _split(bare, _SEPARATOR) if part]
    # `x ≠ 2` beside other values is a condition, not a value.
    said = [part for part in parts if not re.search(r"\\neq?(?![a-z])", part)] or parts
    found = [list(_values(part, constant)) for part in (parts if any(map(_RELATION.search, said)) else said)]
    values = [value for part in found for value in part]
    if not values or [] in found:
        return None
    # The subscripts of x_1 = 2, x_2 = 3 only count roots; those of v_1 = 2, v_2 = 3 are names.
    for letter in "xyztnr":
        if sorted(value.label for value in values) == [f"{letter}_{i + 1}" for i in range(len(values))]:
            values = [replace(value, label=letter) for value in values]
    return MathAnswer(text, tuple(values), constant)


def says_nothing(text: str) -> bool:
    """Whether an answer in one spelling states that there is no solution."""
    empty = (
        rf"\s*(?:\\(?:emptyset|varnothing)|\\?\{{\s*\\?\}})\s*|\W*(?:there (?:is|are) )?{NO_SOLUTION}(?: exists?)?\W*"
    )
    return re.fullmatch(empty, text, re.IGNORECASE) is not None


def without_unit(text: str) -> str:
    """Return a value in one spelling without the unit behind it."""
    return _UNIT.sub("", text.strip()).strip()


def _split(text: str, separator: str, brackets: str = "([{") -> list[str]:
    """Split outside of brackets."""
    parts, depth, last = [], 0, 0
    for match in re.finditer(rf"\\?[()\[\]{{}}]|{separator}|\\[a-z]+", text):
        token = match.group()
        if token[-1] in brackets:
            depth += 1
        elif token[-1] in ")]}" and "([{"[")]}".index(token[-1])] in brackets:
            depth -= 1
        elif depth <= 0 and re.fullmatch(separator, token):
            parts.append(text[last : match.start()])
            last = match.end()
    return [part.strip() for part in (*parts, text[last:])]


def _values(part: str, constant: bool) -> Iterator[Value]:
    """Yield the value of a part, two for a ±; nothing if it cannot be parsed."""
    if _RELATION.search(part):
        sides = re.split(r"(>|\\geq?(?![a-z]))", part)
        if len(sides) > 3:  # a > b > c is compared as c < b < a
            part = "".join({">": "<"}.get(side, side.replace(r"\ge", r"\le")) for side in reversed(sides))
        relation = parse(part)
        if relation is not None:
            yield Value("", relation)
        return
    label, value = _cut_label(part)
    if not _NAME.fullmatch(label) and re.search("[a-zA-Z]", without_commands(f"{label} {without_unit(value)}")):
        equation = parse(f"{label} = {value}")
        if isinstance(equation, sympy.Eq):
            yield Value("", equation)
            return
    free = 0
    if constant:
        value, free = re.subn(r"\+\s*[CcKk]$|^[CcKk]\s*\+", "", value)
    value, percents = re.subn(r"\\?%$", "", value.strip())
    unit = _UNIT.search(value.strip())
    value = without_unit(value)
    one = Value(re.sub(r"[{}]", "", label), None, bool(percents), unit[0].strip() if unit else "", free=bool(free))
    if based := re.fullmatch(r"\(?([0-9A-F]{1,30})\)?_\{?([2-9]|1[0-6])\}?", value):
        with suppress(ValueError):  # a digit is too large for the base
            yield replace(one, expr=sympy.Integer(int(based[1], int(based[2]))), based=True, written=based[1])
        return
    if re.fullmatch(r"\d{1,6}(?::\d{1,6})+", value):
        numbers = [int(number) for number in value.split(":")]
        shortened = [number // (gcd(*numbers) or 1) for number in numbers]
        ratio = sympy.Rational(*numbers) if len(numbers) == 2 else sympy.Tuple(*shortened)
        yield replace(one, expr=ratio, written=value if re.fullmatch(r"\d{1,2}:\d\d", value) else "")
        return
    for signed in (value.replace(r"\pm", "+"), value.replace(r"\pm", "-")) if r"\pm" in value else (value,):
        expr = parse(signed.strip().removeprefix("+"))
        if expr is not None:
            if [symbol.name for symbol in expr.free_symbols] == ["i"]:
                expr = expr.subs(dict.fromkeys(expr.free_symbols, sympy.I))
            yield replace(one, expr=expr / 100 if percents and isinstance(expr, sympy.Expr) else expr)


def _cut_label(part: str) -> tuple[str, str]:
    """Split `f(x) = 12/2 = 6` into ("f(x)", "6"); of `16\\pi \\approx 50.27` use the exact side."""
    exact, *rounded = re.split(r"\\approx|\\simeq|~", part)
    if rounded and re.fullmatch(r"\s*(?:[a-zA-Z']+(?:\([a-z]\))?\s*)?", exact):
        exact = f"{exact} = {rounded[-1]}"
    label, *sides = _split(exact, "=", "{")
    if not sides:
        return "", label
    value = sides[-1]
    if re.fullmatch(r"[a-zA-Z]", value) and re.match(r"-?[\d\\]", label):
        label, value = value, label
    return re.sub(r"\s|\\prime|[{}^](?=\\prime)", "", label.replace(r"\prime", "'")), value


@lru_cache(maxsize=1024)
def parse(latex: str) -> Any:
    """Parse one value to a sympy object; None if it cannot be parsed safely. Decimals keep all their digits."""
    if re.fullmatch(r"-?\d{1,100}(\.\d{1,100})?", latex):
        return sympy.Float(latex, 100) if "." in latex else sympy.Integer(latex)
    if not _harmless(latex):
        return None
    math = re.sub(r"\\frac\{(?:\\partial|d) ?([a-zA-Z])\}\{(?:\\partial|d) ?([a-zA-Z])\}", r"D_{\1\2}", latex)
    math = re.sub(r"([a-zA-Z])('+)", lambda m: f"{m[1]}_{{{'p' * len(m[2])}}}", math)
    try:
        math = normalize_latex(math.translate(HELD_SIGNS), _NORMALIZATION)
        found = latex2sympy(math, is_real=True, normalization_config=None, conversion_config=_CONVERSION)
    except Exception:  # a third-party parser on arbitrary text: any exception means "not readable"
        return None
    return found if isinstance(found, sympy.Basic | sympy.MatrixBase) and not found.has(sympy.zoo) else None


def _harmless(latex: str) -> bool:
    """Whether this is one value, and safe to parse: the parser takes 60 ms for a bracket, and evaluates binomials."""
    if not re.search(r"[a-zA-Z\d]", latex) or len(latex) > 400 or re.search(r"[^\W\d_]{4}", without_commands(latex)):
        return False
    if any(latex.count(bracket) > most for bracket, most in {"(": 12, "[": 12, "^": 12, "{": 60}.items()):
        return False
    unsafe = r"\\(?:int|lim|[pb]?mod|l?dots)|\\vec.*\\times|\\binom.{0,20}\d{4}|!!|\d{101}|\d\s+\d|\{[^{}]*$"
    towers = r"\^\s*(?:\{[^{}]*\}|\w)\s*\^|\^\s*\{[^{}]*\^\s*\{[^{}]*\^"
    return not re.search(f"{unsafe}|{towers}", latex)
