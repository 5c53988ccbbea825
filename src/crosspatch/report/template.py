"""The templates of pages, with automatic escaping, and the packing of data.

A page holds its data as compressed JSON in base64 and unpacks each part when it is needed (`unpack` in
templates/scripts/page.js).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosspatch.characters import legible
from crosspatch.files import written_whole
from crosspatch.report.pictures import palette

if TYPE_CHECKING:
    from jinja2 import Environment

# The range of the axis beside a claim: a share is between 0 and 1, a difference may be below.
_AXIS = (-0.25, 1.05)


def rendered(name: str, *, title: str, refresh: int | None = None, **values: object) -> str:
    """A page made from a template; it reloads every `refresh` seconds."""
    return (
        environment()
        .get_template(f"{name}.html.j2")
        .render(
            title=legible(title),
            refresh=refresh,
            plotting=plotting,
            stops=json.dumps(palette.CTS_SCALE),
            ramp=", ".join(f"{colour} {100 * at:g}%" for at, colour in palette.CTS_SCALE),
            **values,
        )
    )


def write_page(path: Path, page: str) -> Path:
    """Write a page and return its path; the file appears only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        # UTF-8 has no lone surrogates.
        partial.write_text(page, encoding="utf-8", errors="replace")
    return path


@cache
def plotting() -> str:
    """Plotly's script, packed."""
    from plotly.offline import get_plotlyjs

    return _compressed(get_plotlyjs().encode())


@cache
def environment() -> Environment:
    """The templates of this folder and their filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("crosspatch", "report/templates"),
        autoescape=select_autoescape(["html.j2", "css"], default=True, disabled_extensions=["md.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"legible": legible, "along": _along, "packed": packed}
    return environment


def packed(value: object) -> str:
    """A JSON value as base64 of its deflated text.

    Raises ValueError for a number that JSON does not have (NaN, an infinity).
    """
    # ASCII escapes keep lone surrogates.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=list)
    return _compressed(text.encode("ascii"))


def _compressed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def settings_tables(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The record as titled tables: first its single values, then each mapping."""
    single = {key: value for key, value in run.items() if not isinstance(value, Mapping)}
    trees = ({"run": single} if single else {}) | {key: tree for key, tree in run.items() if isinstance(tree, Mapping)}
    return [(legible(str(name)), list(flat(tree))) for name, tree in trees.items()]


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) of every value in nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield legible(f"{prefix}{key}"), legible(text)


def _along(value: float) -> str:
    """The position of a number on a claim's axis as a CSS length, clipped to the axis."""
    low, high = _AXIS
    share: Any = (min(high, max(low, value)) - low) / (high - low)
    return f"{100 * share:.2f}%"
