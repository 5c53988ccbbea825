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

from crosspatch.characters import legible, visible
from crosspatch.files import written_whole
from crosspatch.report.pictures import palette
from crosspatch.statistics.domain import domain_title

if TYPE_CHECKING:
    from jinja2 import Environment

# What of the axis beside a claim is drawn; a share lies between 0 and 1, a difference may lie below.
_AXIS = (-0.25, 1.05)


def rendered(name: str, *, title: str, data: Mapping[str, str], refresh: int | None = None, **values: object) -> str:
    """A page of `templates`. `data` are packed parts by their names; `refresh` are seconds after which it loads anew.

    With charts among its data a page needs `plotly` there too: see `plotting`.
    """
    return (
        _environment()
        .get_template(f"{name}.html.j2")
        .render(
            title=legible(title),
            data=data,
            refresh=refresh,
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

    return compressed(get_plotlyjs().encode())


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("crosspatch", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "legible": legible,
        "number": _number,
        "percent": percent,
        "domain": domain_title,
        "token": visible,
        "along": _along,
    }
    return environment


def packed(value: object) -> str:
    """A value of JSON as base64 of its deflated text: a-z, A-Z, 0-9, +, / and = alone.

    Raises ValueError for a number that JSON does not have (NaN, an infinity).
    """
    # Plain ASCII, so that half of a surrogate pair travels as its escape.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=list)
    return compressed(text.encode("ascii"))


def compressed(content: bytes) -> str:
    """Bytes deflated, as base64."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def settings_tables(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The record as titled tables: its single values first, then one for each mapping in it."""
    single = [(str(key), value) for key, value in run.items() if not isinstance(value, Mapping)]
    tables: list[tuple[str, Mapping[str, Any]]] = [("run", dict(single))] if single else []
    tables += [(str(key), value) for key, value in run.items() if isinstance(value, Mapping)]
    return [(legible(name), list(flat(tree))) for name, tree in tables]


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, value) of every single value in nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield legible(f"{prefix}{key}"), legible(text)


def percent(value: float | None) -> str:
    """A share as it is shown."""
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _along(value: float) -> str:
    """Where a number stands on the axis beside a claim, as CSS has it; at its end where it lies beyond."""
    low, high = _AXIS
    share: Any = (min(high, max(low, value)) - low) / (high - low)
    return f"{100 * share:.2f}%"
