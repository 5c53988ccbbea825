"""Writes a solution in a style: the paper's LaTeX steps with headings, plain text, or terse lines."""

from __future__ import annotations

from dataclasses import dataclass

from crosspatch.config import Style
from crosspatch.data.derivation import Derivation, Done, WorkedStep
from crosspatch.data.latex import plain, plain_words, taken_out, unmarked
from crosspatch.data.problem import Span, Step


@dataclass(frozen=True)
class Solution:
    """A solution's text, with its steps and the spans that show its mistake."""

    text: str
    steps: tuple[Step, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class _Layout:
    """The separators of steps and of lines in a step, the heading of a step, and the last line."""

    parts: str
    lines: str
    step: str
    answer: str


STYLES: dict[Style, _Layout] = {
    "headed": _Layout("\n\n", "\n\n", "### Step {}: ", r"**Answer:** $\boxed{{{}}}$"),
    "plain": _Layout("\n\n", "\n", "Step {}: ", "Answer: {}"),
    "terse": _Layout("\n", "\n", "", "Answer: {}"),
}


def written(derivation: Derivation, style: Style) -> Solution:
    """Write a derivation as text."""
    layout, headed = STYLES[style], style == "headed"
    parts = []
    if derivation.label:
        given = [_line(line, style) for line in derivation.given.split("; ")]
        parts.append(layout.lines.join(given if style == "terse" else [f"{derivation.label}:", *given]))
    steps, state = [], derivation.given
    for i, step in enumerate(derivation.steps, start=1):
        text = layout.lines.join(_terse(step) if style == "terse" else _full(step, style))
        before, after = state if step.before is None else step.before, step.after
        if after is None:
            after = next((unmarked(part) for part in reversed(step.body) if isinstance(part, str)), "")
        state = after or before
        relation = step.relation or derivation.relation
        steps.append(Step(step.kind, unmarked(text), step.operations, step.planted, before, state, relation))
        parts.append(layout.step.format(i) + text)
    parts.append(layout.answer.format(derivation.answer if headed else plain(derivation.answer)))
    text, spans = taken_out(layout.parts.join(parts))
    return Solution(text, tuple(steps), spans)


def _line(part: str | Done, style: Style) -> str:
    if isinstance(part, Done):
        return str(part) if style == "headed" else plain_words(str(part))
    return f"$$\n{part}\n$$" if style == "headed" else plain(part)


def _full(step: WorkedStep, style: Style) -> list[str]:
    title = step.title if style == "headed" else f"{plain_words(step.title)}."
    return [title, *(_line(part, style) for part in step.body)]


def _terse(step: WorkedStep) -> list[str]:
    """Return a step's operations and results, and its title if it has no operation."""
    # Of several formulae in a row, keep the last, but keep both scaled equations of a system.
    followers = [*step.body[1:], None]
    body = [
        part
        for part, after in zip(step.body, followers, strict=False)
        if not (isinstance(part, str) and isinstance(after, str)) or step.kind == "scale"
    ]
    if step.kind == "solve_factor" and step.before:
        # This step solves one of two factors, so it does not continue the line above.
        body.insert(0, step.before)
    lines = [_line(part, "terse") for part in body]
    if not step.operations:
        lines.insert(0, plain_words(step.title) + (":" if lines else "."))
    return lines
