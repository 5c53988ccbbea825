"""Parses mathematical answers: one or several values in any order, each with the left side of its `=`.

Splits a text into single values without label, unit or percent sign, and compares two answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sympy

from crosspatch.grading.math_expression import parse, same_value
from crosspatch.grading.maths_text import one_spelling

# A pattern that matches units.
UNITS = (
    r"(?:square|cubic|sq\.?|cu\.?)?\s*(?:units?|cm|mm|km|m|in|ft|inch(?:es)?|feet|met(?:er|re)s?|"
    r"centimet(?:er|re)s?|degrees?|radians?|dollars?|euros?|seconds?|hours?|minutes?|s|kg|g|[ckm]?m/(?:s|h|min))"
)
_UNIT = re.compile(rf"(?<=[\d}}\w])\s+{UNITS}(?:\^\{{?[23]\}}?)?$|(?<=\d)(?:cm|mm|km)(?:\^\{{?[23]\}}?)?$")

_UNEQUAL = re.compile(r"\\neq?(?![a-zA-Z])|≠")


@dataclass(frozen=True)
class Value:
    """One value: the left side of its `=` ("" for none), the sympy object, and whether it had a `%`."""

    label: str
    expr: Any
    percent: bool = False

    @property
    def constant(self) -> bool:
        """Whether the value is an expression without symbols."""
        return isinstance(self.expr, sympy.Expr) and not self.expr.free_symbols


@dataclass(frozen=True)
class MathAnswer:
    """The values of an answer, in any order; `constant`: the answer is unique up to a constant of integration."""

    values: tuple[Value, ...]
    constant: bool = False

    @property
    def unknown(self) -> str | None:
        """The letter that an answer such as `x = 2` gives a value for."""
        label = self.values[0].label
        return label if re.fullmatch(r"[a-zA-Z]", label) and all(v.constant for v in self.values) else None

    @property
    def unknowns(self) -> tuple[str, ...]:
        """All letters that the answer gives values for: two for a system."""
        labels = dict.fromkeys(value.label for value in self.values if re.fullmatch(r"[a-zA-Z]", value.label))
        return tuple(labels) if self.unknown else ()

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
    text = text.strip(" \n\t.,;:?!\"'")
    text = re.sub(r"\\in\b", "=", text)
    text = re.sub(r"\\[{}]|(?<==)\s*\{([^{}]*,[^{}]*)\}$", r"\1", text)
    if text.startswith("{") and text.endswith("}") and text.count("{") == 1:
        text = text[1:-1]
    values: list[Value] = []
    parts = _parts(text)
    # `x ≠ 2` beside other parts is a condition, not a value.
    for part in [part for part in parts if not _UNEQUAL.search(part)] or parts:
        got = list(_values(part, constant))
        if not got:
            return None
        values += got
    return MathAnswer(tuple(values), constant) if values else None


def _parts(text: str) -> list[str]:
    """Split at commas, `or` and `and` outside of brackets."""
    parts, depth, last = [], 0, 0
    for match in re.finditer(r"[(\[{]|[)\]}]|[,;]|\\lor\b|\\vee\b|\b(?:or|and)\b", text):
        token = match.group()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
        elif depth <= 0:
            parts.append(text[last : match.start()])
            last = match.end()
    parts.append(text[last:])
    return [part for part in parts if part.strip()]


def _values(part: str, constant: bool) -> Iterator[Value]:
    label, value = _cut_label(part.strip())
    if constant:
        value = re.sub(r"\+\s*[CcKk]$|^[CcKk]\s*\+", "", value).strip()
    percent = re.search(r"\\?%$", value) is not None
    value = re.sub(r"\\?%$", "", value).strip()
    value = _UNIT.sub("", value).strip()
    for signed in (value.replace(r"\pm", "+"), value.replace(r"\pm", "-")) if r"\pm" in value else (value,):
        expr = parse(signed.strip().removeprefix("+"))
        if expr is not None:
            if [symbol.name for symbol in expr.free_symbols] == ["i"]:
                expr = expr.subs(dict.fromkeys(expr.free_symbols, sympy.I))
            yield Value(label, expr / 100 if percent and isinstance(expr, sympy.Expr) else expr, percent)


def _cut_label(part: str) -> tuple[str, str]:
    """Split `f(x) = 12/2 = 6` into ("f(x)", "6"); of `16\\pi \\approx 50.27` use the exact side."""
    exact, *rounded = re.split(r"\\approx|\\simeq|~", part)
    if rounded and "=" not in exact and re.fullmatch(r"\s*[a-zA-Z']+(\([a-z]\))?\s*", exact):
        exact = f"{exact} = {rounded[-1]}"
    elif rounded and not exact.strip():
        exact = rounded[-1]
    label, *sides = (side.strip() for side in exact.split("="))
    if not sides:
        return "", label
    value = sides[-1]
    if re.fullmatch(r"[a-zA-Z]", value) and re.match(r"-?[\d\\]", label):
        label, value = value, label
    label = re.sub(r"_\{?\d+\}?", "", label)
    return re.sub(r"\s|\\prime|[{}^](?=\\prime)", "", label.replace(r"\prime", "'")), value


def same_answer(gold: MathAnswer, said: MathAnswer) -> bool:
    """Whether both answers have the same values."""
    return all(any(_equal(g, s) for g in gold.values) for s in said.values) and all(
        any(_equal(g, s) for s in said.values) for g in gold.values
    )


def _equal(gold: Value, said: Value) -> bool:
    if not _labels_agree(gold.label, said.label):
        return False
    if same_value(gold.expr, said.expr):
        return True
    numbers = isinstance(gold.expr, sympy.Expr) and isinstance(said.expr, sympy.Expr)
    return numbers and gold.percent and not said.percent and same_value(gold.expr * 100, said.expr)


def _labels_agree(gold: str, said: str) -> bool:
    """Whether the labels may belong to the same answer: `x` and `y` may not, f' and f'' may not, other names may."""
    if not gold or not said:
        return True
    if re.fullmatch("[a-zA-Z]", gold):
        return gold == said
    return "'" not in gold or "'" not in said or gold.count("'") == said.count("'")
