"""A claim: what is said, the number behind it with its interval, and what that is compared with.

It is shown where the two intervals lie apart in the direction that it says, and not otherwise. Knows no measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crosspatch.card import Table
from crosspatch.results.interval import FEWEST_UNITS, Interval

Side = Literal["above", "below"]

# What a claim may be told of.
_PLACE = ("domain", "component", "direction", "persistence", "schedule", "layer")
# A permutation or sign test that has to agree with the intervals.
ALPHA = 0.05


@dataclass(frozen=True)
class Claim:
    """`statement` holds where `found` lies on one `side` of `control`; of several controls the nearest is the one.

    `about` says whether it is a claim about the mistake or about the fine-tune as such; `place` says of which
    domain, variant and layer, as far as that is told; `chance` is a test's p-value, None without one.
    `needs` are other claims without which this one says nothing.
    """

    name: str
    statement: str
    about: Literal["mistake", "fine-tune"]
    found: Interval
    control: str
    compared: Interval
    side: Side = "above"
    chance: float | None = None
    untested: str | None = None
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> bool:
        """Whether the numbers show it."""
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """Why it is not shown; None where it is."""
        apart = self.found.above(self.compared) if self.side == "above" else self.compared.above(self.found)
        reasons = (
            (self.untested is not None, str(self.untested)),
            (self.found.estimate is None, "there is nothing to measure"),
            (self.compared.estimate is None, f"{self.control}: there is nothing to compare with"),
            (
                not (self.found.known and self.compared.known),
                f"fewer than {FEWEST_UNITS} prompts have anything to say",
            ),
            (not apart, f"its interval is not {self.side} that of its control"),
            (
                self.chance is not None and self.chance > ALPHA,
                f"chance alone gives as much, p = {self.chance or 0:.2f}",
            ),
        )
        return next((reason for holds, reason in reasons if holds), None)

    @property
    def sentence(self) -> str:
        """The verdict, the claim and the numbers, in one line."""
        numbers = f"{self.found}, {self.control}: {self.compared}"
        test = "" if self.chance is None else f", p = {self.chance:.2g}"
        verdict = "shown" if self.reason is None else f"not shown ({self.reason})"
        return f"{verdict}: {self.statement}: {numbers}{test}"

    def row(self) -> dict[str, Any]:
        """A row of the table of claims (see frames.CLAIMS)."""
        return {
            "claim": self.name,
            "statement": self.statement,
            "about": self.about,
            **{key: self.place.get(key) for key in _PLACE},
            **self.found.columns,
            "control": self.control,
            **{f"control_{end}": value for end, value in self.compared.columns.items()},
            "chance": self.chance,
            "shown": self.shown,
            "reason": self.reason,
        }


def claims_table(rows: Iterable[Mapping[str, Any]], fold: str = "") -> Table:
    """Rows of the table of claims (see frames.CLAIMS) as a notebook has them, those that are shown first."""
    ordered = sorted(rows, key=lambda row: not row["shown"])
    cells = [
        (
            "shown" if row["shown"] else "not shown",
            row["statement"],
            str(Interval.of_row(row)),
            f"{row['control']}: {Interval.of_row(row, 'control_')}",
            row["reason"] or "",
        )
        for row in ordered
    ]
    columns = ("claim", "what is said", "found", "held against", "why not")
    return Table(columns, cells, "Intervals are of 95 %, over prompts.", fold)


def nearest(controls: Mapping[str, Interval], side: Side) -> tuple[str, Interval]:
    """Of several controls the one that is hardest to be apart from: whose interval reaches furthest.

    One without an interval comes first, for then nothing can be told. Raises ValueError for none.
    """
    if not controls:
        raise ValueError("there is no control to choose from")

    def reach(interval: Interval) -> float:
        end = interval.high if side == "above" else interval.low
        if end is None:
            return float("inf")
        return end if side == "above" else -end

    return max(controls.items(), key=lambda control: reach(control[1]))
