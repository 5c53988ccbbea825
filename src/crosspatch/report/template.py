"""The pages' templates: escaped throughout, with the looks that all pages share.

Data of a page travels packed: JSON, compressed, in letters that mean nothing to a reader of HTML. The page unpacks it
where it is needed (`unpack` in templates/scripts/page.js).
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
    """A page of `templates`; `refresh` are seconds after which it loads itself again."""
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
    """Write a page, which appears under its name only when it is complete; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        # A lone half of a surrogate pair has no UTF-8.
        partial.write_text(page, encoding="utf-8", errors="replace")
    return path


@cache
def plotting() -> str:
    """The one copy of the plotting code, packed."""
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
    """A value of JSON as base64 of its deflated text: a-z, A-Z, 0-9, +, / and = alone.

    Raises ValueError for a number that JSON does not have (NaN, an infinity).
    """
    # Plain ASCII, so that half of a surrogate pair travels as its escape.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=list)
    return _compressed(text.encode("ascii"))


def _compressed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def settings_tables(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The record as titled tables: its single values first, then one for each mapping in it."""
    single = {key: value for key, value in run.items() if not isinstance(value, Mapping)}
    trees = ({"run": single} if single else {}) | {key: tree for key, tree in run.items() if isinstance(tree, Mapping)}
    return [(legible(str(name)), list(flat(tree))) for name, tree in trees.items()]


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, value) of every single value in nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield legible(f"{prefix}{key}"), legible(text)


def _along(value: float) -> str:
    """The position of a number on a claim's axis, as a CSS length; numbers beyond the axis are at its end."""
    low, high = _AXIS
    share: Any = (min(high, max(low, value)) - low) / (high - low)
    return f"{100 * share:.2f}%"
