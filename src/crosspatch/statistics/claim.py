"""A claim: a statement, the number that decides it, and the range that this number must be in.

There are three verdicts: *shown* if the whole interval is inside the range, *contradicted* if all of it is outside, and
*undecided* otherwise. For superiority ("more than the control") the range of the difference is above 0, for
non-inferiority ("at most 0.1 less") above −0.1, and for equivalence ("within 0.1 of 1") between two numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from crosspatch.html_repr import Table
from crosspatch.statistics.interval import FEWEST_EFFECTIVE, FEWEST_UNITS, Interval

Verdict = Literal["shown", "contradicted", "undecided"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_PLACE = ("domain", "component", "direction", "persistence", "schedule", "layer")
# The level of the permutation or sign test that must agree with the interval.
ALPHA = 0.05
# The margin of non-inferiority ("as much") and equivalence ("the same"), for recovered fractions and shares of answers.
MARGIN = 0.1


@dataclass(frozen=True)
class Range:
    """The range that a number must be in: above `least`, below `most`, or between them. None: no bound."""

    least: float | None = None
    most: float | None = None

    def holds(self, interval: Interval) -> bool:
        """Whether the whole interval is inside the range."""
        low, high = interval.low, interval.high
        return (
            low is not None
            and high is not None
            and (self.least is None or low > self.least)
            and (self.most is None or high < self.most)
        )

    def misses(self, interval: Interval) -> bool:
        """Whether the whole interval is outside the range, on one side."""
        low, high = interval.low, interval.high
        return (
            low is not None
            and high is not None
            and ((self.least is not None and high < self.least) or (self.most is not None and low > self.most))
        )

    def hardest(self, intervals: Mapping[str, Interval]) -> str:
        """Return the name of the interval that is furthest from being inside the range, or one without ends."""

        def room(name: str) -> float:
            interval = intervals[name]
            if interval.low is None or interval.high is None:
                return float("-inf")
            sides = [] if self.least is None else [interval.low - self.least]
            return min([*sides, *([] if self.most is None else [self.most - interval.high])])

        return min(intervals, key=room)

    def __str__(self) -> str:
        """Describe the range, such as "above 0" or "between 0.9 and 1.1"."""
        if self.least is not None and self.most is not None:
            return f"between {self.least:.3g} and {self.most:.3g}"
        return f"above {self.least:.3g}" if self.most is None else f"below {self.most:.3g}"


MORE, LESS = Range(least=0.0), Range(most=0.0)
AS_MUCH, THE_SAME = Range(least=-MARGIN), Range(-MARGIN, MARGIN)


@dataclass(frozen=True)
class Claim:
    """A claim is shown if the whole interval of `decides` lies within `range`.

    `found` is the measured number and `compared` the number of its `control`. Their `difference` on the same cells or
    questions decides, or `found` itself if the difference is None. A claim is `about` the mistake or about the
    fine-tune; `place` is its domain, mode and layer, as far as they apply. `p_value` belongs to a test that must agree
    with the interval (None: no test); a `one_sided` test has a small p-value if the claim holds and a large one if the
    opposite holds. `untested` is the reason why the claim was not tested, or None.
    """

    name: str
    statement: str
    found: Interval
    control: str
    compared: Interval
    range: Range = MORE
    difference: Interval | None = None
    about: Literal["mistake", "fine-tune"] = "fine-tune"
    p_value: float | None = None
    one_sided: bool = False
    untested: str | None = None
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decides(self) -> Interval:
        """The interval that decides the claim."""
        return self.found if self.difference is None else self.difference

    @property
    def verdict(self) -> Verdict:
        """The verdict: shown, contradicted or undecided."""
        if self.untested is not None:
            return "undecided"
        if self.range.holds(self.decides) and self._agrees(holds=True):
            return "shown"
        return "contradicted" if self.range.misses(self.decides) and self._agrees(holds=False) else "undecided"

    @property
    def is_share(self) -> bool:
        """Whether the claim's numbers are shares or fractions, not layers."""
        return self.compared.estimate is None or self.compared.estimate <= 1

    @property
    def shown(self) -> bool:
        """Whether the verdict is shown."""
        return self.verdict == "shown"

    @property
    def reason(self) -> str | None:
        """The reason why the claim is not shown; None if it is shown."""
        decides = self.decides
        what = f"{decides}" if self.difference is None else f"the difference, {decides},"
        reasons = (
            (self.shown, None),
            (self.untested is not None, self.untested),
            (self.found.estimate is None, "there is nothing to measure"),
            (decides.estimate is None, f"{self.control}: there is nothing to compare with"),
            (not decides.known, _too_few(decides)),
            (self.verdict == "contradicted", f"{what} is not {self.range}"),
            (
                self.range.holds(decides) or self.range.misses(decides),
                f"it may be due to chance, p = {self.p_value or 0:.2f}",
            ),
            (True, f"{what} may or may not be {self.range}"),
        )
        return next(reason for holds, reason in reasons if holds)

    @property
    def numbers(self) -> str:
        """The measured number, the number of the control, and the test, in words."""
        return f"{self.found}, {self.control}: {self.compared}{self.test}"

    @property
    def test(self) -> str:
        """The difference that decides and the p-value, if there are any, as the end of a sentence."""
        known = self.difference is not None and self.difference.estimate is not None
        apart = f", difference {self.difference}" if known else ""
        return apart if self.p_value is None else f"{apart}, p = {self.p_value:.2g}"

    @property
    def sentence(self) -> str:
        """The verdict, the claim and the numbers, in one line."""
        verdict = self.verdict if self.reason is None else f"{self.verdict} ({self.reason})"
        return f"{verdict}: {self.statement}: {self.numbers}"

    def _agrees(self, *, holds: bool) -> bool:
        """Whether the test, if there is one, agrees with the interval that the claim (or its opposite) holds."""
        if self.p_value is None:
            return True
        return (1 - self.p_value if self.one_sided and not holds else self.p_value) <= ALPHA

    def row(self) -> dict[str, Any]:
        """Return the claim as a row of tables.CLAIMS."""
        return {
            "claim": self.name,
            "statement": self.statement,
            "about": self.about,
            **{key: self.place.get(key) for key in _PLACE},
            **self.found.columns,
            "control": self.control,
            **{f"control_{name}": value for name, value in self.compared.columns.items()},
            **{f"decides_{name}": value for name, value in self.decides.columns.items()},
            "least": self.range.least,
            "most": self.range.most,
            "p_value": self.p_value,
            "verdict": self.verdict,
            "reason": self.reason,
        }


def _too_few(interval: Interval) -> str:
    if interval.effective is None or interval.effective >= FEWEST_EFFECTIVE:
        return f"there are too few prompts or seeds for an interval, expected at least {FEWEST_UNITS} prompts"
    return f"an interval needs {FEWEST_EFFECTIVE:g} effective prompts, there are {interval.effective:.1f}"


def counted(verdicts: Iterable[str]) -> str:
    """Count the verdicts, such as "7 shown, 2 contradicted, 10 undecided"."""
    found = list(verdicts)
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS)


def difference(row: Mapping[str, Any]) -> str:
    """Format the difference that decides, from a row of tables.CLAIMS; empty if the measured number itself decides."""
    decides = Interval.of_row(row, "decides_")
    return "" if decides.estimate is None or decides == Interval.of_row(row) else str(decides)


def claims_table(rows: Iterable[Mapping[str, Any]], fold: str = "") -> Table:
    """Format rows of tables.CLAIMS as a table for a notebook, sorted by verdict."""
    ordered = sorted(rows, key=lambda row: VERDICTS.index(row["verdict"]))
    cells = [
        (
            row["verdict"],
            row["statement"],
            str(Interval.of_row(row)),
            f"{row['control']}: {Interval.of_row(row, 'control_')}",
            difference(row),
            row["reason"] or "",
        )
        for row in ordered
    ]
    columns = ("verdict", "claim", "found", "compared with", "difference", "why not shown")
    return Table(columns, cells, "The intervals are 95 % intervals over prompts.", fold)
