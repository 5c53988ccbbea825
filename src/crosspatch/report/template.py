"""The pages' templates: escaped throughout, with the looks that all pages share.

Knows the folder of templates and what may be asked of them, nothing of what a page says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from crosspatch.characters import legible, visible
from crosspatch.report.packing import compressed
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
