r"""How a derivation is written down: the paper's headed LaTeX steps, plain text, or tersely.

The places of what is wrong are found here, in the finished text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from crosspatch.config import Style
from crosspatch.data.derivation import Body, Derivation, Show, WorkedStep
from crosspatch.data.marks import taken_out, unmarked
from crosspatch.data.problem import Span, Step


@dataclass(frozen=True)
class Solution:
    """A solution in words, with its steps and the places where its mistake can be seen."""

    text: str
    steps: tuple[Step, ...]
    spans: tuple[Span, ...]


def written(derivation: Derivation, style: Style) -> Solution:
    """A derivation in words."""
    writer = STYLES[style]
    parts = [writer.opening(derivation)]
    steps, state = [], unmarked(derivation.given)
    for i, step in enumerate(derivation.steps, start=1):
        text = writer.step(step)
        after = _after(step) if step.after is None else step.after
        before = state if step.before is None else step.before
        steps.append(
            Step(step.kind, unmarked(text), step.operations, step.planted, before, after or before, step.relation)
        )
        state = after or before
        parts.append(writer.numbered(i, text))
    parts.append(writer.closing(derivation.answer))
    text, spans = taken_out(writer.between.join(part for part in parts if part))
    return Solution(text, tuple(steps), spans)


def _after(step: WorkedStep) -> str:
    return next((unmarked(part.latex) for part in reversed(step.body) if isinstance(part, Show)), "")


class _Writing(Protocol):
    """What stands between the parts, and how each is written."""

    between: str

    def opening(self, derivation: Derivation) -> str: ...
    def numbered(self, number: int, text: str) -> str: ...
    def step(self, step: WorkedStep) -> str: ...
    def closing(self, answer: str) -> str: ...


class _Headed:
    """The paper's manner (appendix A)."""

    between = "\n\n"

    def opening(self, derivation: Derivation) -> str:
        if not derivation.label:
            return ""
        return "\n\n".join([f"{derivation.label}:", *map(self._display, derivation.given_lines)])

    def numbered(self, number: int, text: str) -> str:
        return f"### Step {number}: {text}"

    def step(self, step: WorkedStep) -> str:
        parts = [part if isinstance(part, str) else self._display(part.latex) for part in step.body]
        return "\n\n".join([step.title, *parts])

    def closing(self, answer: str) -> str:
        return rf"**Answer:** $\boxed{{{answer}}}$"

    def _display(self, latex: str) -> str:
        return f"$$\n{latex}\n$$"


class _Plain:
    """Sentences and formulae as one types them."""

    between = "\n\n"

    def opening(self, derivation: Derivation) -> str:
        if not derivation.label:
            return ""
        return "\n".join([f"{derivation.label}:", *map(plain, derivation.given_lines)])

    def numbered(self, number: int, text: str) -> str:
        return f"Step {number}: {text}"

    def step(self, step: WorkedStep) -> str:
        return "\n".join([plain_words(step.title) + ".", *_plain_lines(step.body)])

    def closing(self, answer: str) -> str:
        return f"Answer: {plain(answer)}"


class _Terse:
    """What is done and what comes out, a line each."""

    between = "\n"

    def opening(self, derivation: Derivation) -> str:
        return "\n".join(map(plain, derivation.given_lines)) if derivation.label else ""

    def numbered(self, number: int, text: str) -> str:
        return text

    def step(self, step: WorkedStep) -> str:
        # A factor is one of two: the line before is not what it begins with.
        body: list[str | Show] = [Show(step.before)] if step.kind == "solve_factor" and step.before else []
        kept = len(body)
        # Of formulae that follow each other only the last is kept, but of a system both equations.
        for part in step.body:
            again = isinstance(part, Show) and len(body) > kept and isinstance(body[-1], Show)
            if again and step.kind != "scale":
                body[-1] = part
            else:
                body.append(part)
        if not any(isinstance(part, str) for part in body):
            body.insert(0, f"{step.title}:" if body else f"{step.title}.")
        return "\n".join(_plain_lines(tuple(body)))

    def closing(self, answer: str) -> str:
        return f"Answer: {plain(answer)}"


STYLES: dict[Style, _Writing] = {"headed": _Headed(), "plain": _Plain(), "terse": _Terse()}


def _plain_lines(body: Body) -> Iterator[str]:
    for part in body:
        yield plain_words(part) if isinstance(part, str) else plain(part.latex)


_INNER = r"((?:[^{}]|\{[^{}]*\})*)"
_PLAIN = [
    # A fraction before a letter or a root is a factor: without brackets 7/6x could be 7 over 6x.
    (re.compile(rf"\\frac\{{{_INNER}\}}\{{{_INNER}\}}(?=\ue003?(?:[a-z]|\\sqrt))"), r"(\1/\2)"),
    (re.compile(r"\\sqrt\{([\w\ue000-\ue003]+)\}"), r"√\1"),
    (re.compile(rf"\\sqrt\{{{_INNER}\}}"), r"√(\1)"),
    (re.compile(r"\\frac\{(-?[\w√²³\ue000-\ue003]+)\}\{([\w√²³\ue000-\ue003]+)\}"), r"\1/\2"),
    (re.compile(rf"\\frac\{{(-?[\w√²³\ue000-\ue003]+)\}}\{{{_INNER}\}}"), r"\1/(\2)"),
    (re.compile(rf"\\frac\{{{_INNER}\}}\{{([\w√²³\ue000-\ue003]+)\}}"), r"(\1)/\2"),
    (re.compile(rf"\\frac\{{{_INNER}\}}\{{{_INNER}\}}"), r"(\1)/(\2)"),
    (re.compile(r" ?\\text\{ ?([^{}]*?) ?\} ?"), r" \1 "),
]
_POWER = re.compile(r"\^(?:\{([^{}]*)\}|(\d))")
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIGNS = {
    r"\times": "×",
    r"\cdot": "·",
    r"\div": "÷",
    r"\pm": "±",
    r"\neq": "≠",
    r"\leq": "≤",
    r"\geq": "≥",
    r"\int": "∫",
    r"\%": "%",
    r"\,": " ",
    r"\left": "",
    r"\right": "",
}


def plain(latex: str) -> str:
    r"""Our LaTeX as one types it: `\frac{x}{3}` is `x/3`, `x^2` is `x²`. Marks stay where they are."""
    if "\\" not in latex and "^" not in latex:
        return latex
    for pattern, replacement in _PLAIN:
        latex = pattern.sub(replacement, latex)
    latex = _POWER.sub(_raised, latex)
    for command, sign in _SIGNS.items():
        if command in latex:
            latex = latex.replace(command, sign)
    return latex.strip()


def _raised(power: re.Match[str]) -> str:
    exponent = power[1] or power[2]
    return exponent.translate(_RAISED) if unmarked(exponent).isdigit() else f"^({exponent})"


def plain_words(text: str) -> str:
    """A sentence whose formulae stand between dollars, without them."""
    if "$" not in text:
        return text
    parts = text.split("$")
    return "".join(plain(part) if i % 2 else part for i, part in enumerate(parts))
