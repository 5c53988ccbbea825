"""The HTML that notebooks show for an object: static, without scripts or external files.

Styles are inline and use the notebook's own colours, so it reads on light and dark themes. Every text is made legible,
truncated and escaped here, as names and tokens may contain anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crosspatch.characters import legible

# Characters of a text that are shown; of a longer one the length is added.
LIMIT = 160
# Colours that work on light and dark themes.
_LINE = "rgba(128,128,128,.35)"
_GROUND = "rgba(128,128,128,.16)"
_BAR = "#d9662b"
_BELOW = "#3f7cb8"
_MUTED = "opacity:.7"
_TABLE = "border-collapse:collapse;border:0;margin:6px 0;font-size:inherit"
_CELL = "padding:1px 14px 1px 0;text-align:left;vertical-align:top;border:0;background:transparent"
_WRAPPED = "white-space:pre-wrap;overflow-wrap:anywhere"


@dataclass(frozen=True)
class Bar:
    """A number and a bar whose full width is 1; None: undefined, without a bar."""

    value: float | None

    @property
    def number(self) -> str:
        """The number as text."""
        return "undefined" if self.value is None else f"{self.value:z.2f}".replace("-", "−")

    @property
    def share(self) -> float:
        """The width of the bar in per cent, 100 at most."""
        return 100 * min(1.0, abs(self.value or 0.0))

    @property
    def colour(self) -> str:
        """The colour: one for numbers above 0, another for numbers below."""
        return _BELOW if (self.value or 0.0) < 0 else _BAR


@dataclass(frozen=True)
class Table:
    """A table whose cells are texts or bars, with an optional `note` below.

    `fold` is the line under which the table is collapsed.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Bar]]
    note: str = ""
    fold: str = ""

    @property
    def html(self) -> str:
        """The table with its note below."""
        heads = "".join(f'<th style="{_CELL};font-weight:600">{shown(name)}</th>' for name in self.columns)
        rows = "".join(f'<tr style="background:transparent">{_cells(row)}</tr>' for row in self.rows)
        note = f'<div style="{_MUTED};font-size:.9em">{shown(self.note, 400)}</div>' if self.note else ""
        head = f'<thead><tr style="background:transparent">{heads}</tr></thead>' if any(self.columns) else ""
        table = f'<table style="{_TABLE}">{head}<tbody>{rows}</tbody></table>{note}'
        return f"<details><summary>{shown(self.fold)}</summary>{table}</details>" if self.fold else table


@dataclass(frozen=True)
class Strip:
    """Many numbers as vertical bars side by side, each with a tooltip; the first and last bar are labelled."""

    title: str
    names: Sequence[str]
    bars: Sequence[Bar]
    hovers: Sequence[str]

    @property
    def html(self) -> str:
        """The title, the bars on a scale from 0 to 1, and the first and last name below."""
        bars = "".join(
            f'<div title="{"".join(_cut(hover, 200))}" style="flex:1 1 0;min-width:2px;max-width:18px;height:100%;'
            f'background:{_GROUND};display:flex;align-items:flex-end">'
            f'<div style="width:100%;height:{bar.share:.0f}%;background:{bar.colour}"></div></div>'
            for bar, hover in zip(self.bars, self.hovers, strict=True)
        )
        width = f"max-width:{19 * len(self.bars)}px"
        below = f"display:flex;justify-content:space-between;{_MUTED};font-size:.9em;{width}"
        ends = "".join(f"<span>{shown(name)}</span>" for name in (self.names[0], self.names[-1]))
        return (
            f'<div style="margin:6px 0"><div>{shown(self.title)}</div>'
            f'<div style="display:flex;gap:1px;height:56px;{width}">{bars}</div>'
            f'<div style="{below}">{ends}</div></div>'
        )


@dataclass(frozen=True)
class HtmlRepr:
    """A title, named facts, tables and strips, and lines of code to continue with."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    parts: Sequence[Table | Strip] = ()
    hints: Sequence[str] = ()

    @property
    def html(self) -> str:
        """The whole HTML."""
        facts = Table(("", ""), self.facts).html if self.facts else ""
        parts = "".join(part.html for part in self.parts)
        hints = "".join(f"<div><code>{shown(hint, 200)}</code></div>" for hint in self.hints)
        go_on = (
            f'<div style="border-top:1px solid {_LINE};margin-top:6px;padding-top:6px">{hints}</div>' if hints else ""
        )
        # Notebooks render `$…$` as mathematics in all output but of these classes.
        return (
            f'<div class="mathjax_ignore tex2jax_ignore" style="border:1px solid {_LINE};border-radius:6px;'
            f"padding:8px 12px;margin:2px 0;max-width:760px;overflow-x:auto;color:inherit;font-size:13px;"
            f'line-height:1.45"><div style="font-weight:600">{shown(self.title, 200)}</div>{facts}{parts}{go_on}</div>'
        )


def shown(text: str, limit: int = LIMIT) -> str:
    """A text as one line of HTML: legible, truncated to about `limit` characters with a note, escaped."""
    # <bdi> keeps right-to-left text from reordering what surrounds it.
    cut, rest = _cut(text, limit)
    return f"<bdi>{cut}</bdi>{rest}"


def _cut(text: str, limit: int) -> tuple[str, str]:
    """A text's beginning in one line, legible and escaped, and a note if it is truncated."""
    cut = html.escape(legible(text[:limit].replace("\n", " ").replace("\t", " ")))
    return cut, f"… ({len(text):,} characters)" if len(text) > limit else ""


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first names of a list, and the number of further ones."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return (
        ", ".join(name if len(name) <= LIMIT // most else f"{name[: LIMIT // most]}…" for name in found[:most]) + more
    )


def _cells(row: Sequence[str | Bar]) -> str:
    first, *others = row
    head = f'<th scope="row" style="{_CELL};font-weight:400;{_MUTED};white-space:nowrap">{_content(first)}</th>'
    return head + "".join(f'<td style="{_CELL};{_WRAPPED}">{_content(cell)}</td>' for cell in others)


def _content(cell: str | Bar) -> str:
    if isinstance(cell, str):
        return shown(cell)
    if cell.value is None:
        return f'<span style="{_MUTED}">{cell.number}</span>'
    return (
        '<span style="display:inline-flex;align-items:center;gap:6px">'
        f'<span style="display:inline-block;width:80px;height:9px;background:{_GROUND}">'
        f'<span style="display:block;width:{cell.share:.0f}%;height:100%;background:{cell.colour}"></span></span>'
        f"<span>{cell.number}</span></span>"
    )
