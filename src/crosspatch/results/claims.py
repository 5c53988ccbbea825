"""What a run shows, claim by claim: the paper's claims about transfer, tokens and behaviour, each held to a control.

Every claim is made whatever comes out; its verdict is what the numbers say. Knows how measures are compared, not how
they were taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.config import MADE_CONTROLS, Direction
from crosspatch.frames import REPAIRED
from crosspatch.results.claim import ALPHA, Claim, nearest
from crosspatch.results.domain import domain_title, ordered_domains
from crosspatch.results.interval import Interval, wilson
from crosspatch.results.variant import last_layer
from crosspatch.results.words import LATE

HALF = Interval(0.5, 0.5, 0.5)
NOTHING = Interval(0.0, 0.0, 0.0)
# Moved into itself a model stays as it is: that checks the engine, and nothing can be compared with it.
_IDENTITY = "self"
# The whole state of a position, in which things build up; what a part of a block moves alone does not add up.
_WHOLE_STATE = ("resid_mid", "resid_post")
_PLACE = ("component", "direction", "persistence", "schedule")


def claims(
    depth: pl.DataFrame,
    tokens: pl.DataFrame,
    comparisons: pl.DataFrame,
    *,
    spans: pl.DataFrame | None = None,
    n_layers: int | None = None,
    patched: Direction = "corrupt",
) -> list[Claim]:
    """All claims that the tables of depth, tokens and comparisons can bear, in the order in which they are told.

    `n_layers` is the model's depth (None: not known, see `last_layer`), `patched` the direction of the texts of that
    name (see `patched_direction`).
    """
    found = list(_behaviour(comparisons, n_layers, patched))
    for keys in depth.select(_PLACE).unique(maintain_order=True).iter_rows():
        place = dict(zip(_PLACE, keys, strict=True))
        of_place = depth.filter([pl.col(key) == value for key, value in place.items()])
        for domain in ordered_domains(of_place["domain"]) if place["component"] in _WHOLE_STATE else ():
            found += _Profile(of_place.filter(domain=domain), {**place, "domain": domain}, n_layers).claims()
        if place["direction"] == "corrupt":
            found += _domains(of_place, place)
            found += _tokens(tokens, place, "class")
            if spans is not None:
                found += _tokens(spans, place, "span")
    return found


@dataclass(frozen=True)
class _Profile:
    """The depth statistics of one variant in one domain. `share` of the way from target to source, whichever way."""

    rows: pl.DataFrame
    place: Mapping[str, Any]
    n_layers: int | None

    def claims(self) -> Iterator[Claim]:
        """What is said of one profile."""
        layers = self.rows.filter(measure="transfer")["layer"].drop_nulls().unique().sort()
        last = last_layer(layers, self.n_layers)
        # The last layer is a ceiling.
        below_last = layers.filter(layers < last).to_list()
        if len(below_last) < 2:
            return
        lowest, top = below_last[0], below_last[-1]
        where = f"on {domain_title(self.place['domain']).lower()}, {self.place['component']} {self.place['direction']}"
        builds = self._builds_up(lowest, top, where)
        yield builds
        rest = None if builds.shown else "transfer is not shown to build up at all"
        largest = self._step_layer()
        to = "" if largest is None else f" (the largest is to layer {largest})"
        yield Claim(
            "gradual",
            f"no single step from one patched layer to the next adds half of the transfer {where}{to}",
            "fine-tune",
            self._of("largest_step", None),
            "half of all",
            HALF,
            "below",
            untested=rest,
            place={**self.place, "layer": largest},
        )
        early = math.floor(LATE * (last + 1)) - 1
        # A layer far below it could say nothing about it.
        if early in below_last:
            yield Claim(
                "late",
                f"less than half has come below layer {early + 1}, the paper's 28 of 36 in depth, {where}",
                "fine-tune",
                self._share(early, None),
                "half of all",
                HALF,
                "below",
                untested=rest,
                place={**self.place, "layer": early},
            )

    def _builds_up(self, lowest: int, top: int, where: str) -> Claim:
        # A child without the mistake repairs as the clean model does: there it is a second source, and no control.
        foreign = {_IDENTITY, *(MADE_CONTROLS if self.place["direction"] == "repair" else ())}
        controls = {
            name: self._share(top, name)
            for name in self.rows.filter(layer=top)["control"].drop_nulls().unique(maintain_order=True)
            if name not in foreign
        }
        none = None if controls else "no control was measured"
        # The lowest layer is a control too: without a rise nothing builds up.
        controls[f"layer {lowest}"] = self._share(lowest, None)
        control, compared = nearest(controls, "above")
        return Claim(
            "builds_up",
            f"transfer builds up from layer {lowest} to {top} {where}",
            "fine-tune",
            self._share(top, None),
            control,
            compared,
            untested=none,
            place={**self.place, "layer": top},
        )

    def _step_layer(self) -> int | None:
        found = self.rows.filter(measure="largest_step")["layer"]
        return None if found.is_empty() or found[0] is None else int(found[0])

    def _share(self, layer: int, control: str | None) -> Interval:
        interval = self._of("transfer", layer, control)
        return _reversed(interval) if self.place["direction"] == "repair" else interval

    def _of(self, measure: str, layer: int | None, control: str | None = None) -> Interval:
        rows = self.rows.filter(pl.col("measure") == measure, pl.col("control").eq_missing(control))
        if layer is not None:
            rows = rows.filter(layer=layer)
        return _interval(rows)


def _domains(depth: pl.DataFrame, place: Mapping[str, str]) -> Iterator[Claim]:
    """Related problems against each other domain: how often the models disagree, and how much transfers there."""
    whole = depth.filter(pl.col("layer").is_null(), pl.col("control").is_null())
    domains = [domain for domain in ordered_domains(whole["domain"]) if domain != "related"]
    if "related" not in whole["domain"]:
        return
    for domain in domains:
        other = domain_title(domain).lower()
        for name, measure, said in (
            (
                "disagree_more",
                "disagreement_rate",
                f"the models disagree more often on related problems than on {other}",
            ),
            ("transfer_more", "transfer", f"where they disagree, more transfers on related problems than on {other}"),
        ):
            rows = whole.filter(measure=measure)
            yield Claim(
                name,
                f"{said}, {place['component']} at all layers but the last",
                "fine-tune",
                _interval(rows.filter(domain="related")),
                domain_title(domain),
                _interval(rows.filter(domain=domain)),
                place={**place, "domain": domain},
            )


def _tokens(tokens: pl.DataFrame, place: Mapping[str, str], by: str) -> Iterator[Claim]:
    """Whether corruption sits on the operations: disagreement, and transfer beyond what that explains."""
    rows = tokens.filter(
        pl.col("layer").is_null(),
        pl.col("domain") == "related",
        pl.col("by") == by,
        *(pl.col(key) == value for key, value in place.items()),
    )
    name = "operation" if by == "class" else "word"
    what = "operation words" if by == "class" else "the mistake's words, in wrong solutions that are read,"
    for measure, said in (
        ("disagreement_rate", f"the models disagree more often at {what} than elsewhere in related problems"),
        ("transfer", f"where they disagree, more transfers at {what} than elsewhere in related problems"),
    ):
        excess = rows.filter(pl.col("class") == name, pl.col("measure") == f"{measure}_excess")
        if excess.is_empty():
            continue
        yield Claim(
            f"{by}_{measure}",
            f"{said}, {place['component']} at all layers but the last",
            # Whatever is fine-tuned on solutions may differ at their operations; places of the mistake are labelled.
            "fine-tune" if by == "class" else "mistake",
            _interval(excess),
            "no excess",
            NOTHING,
            chance=excess["chance"][0],
            place={**place, "domain": "related"},
        )


def _behaviour(comparisons: pl.DataFrame, n_layers: int | None, patched: Direction) -> Iterator[Claim]:
    """What the models answered, unpatched and patched."""
    unpatched = comparisons.filter(pl.col("patch").is_null())
    # Children without the mistake: other seeds, and what a search has tried, have it.
    children = [name for name in unpatched["condition"].unique(maintain_order=True) if name in MADE_CONTROLS]
    others = "the clean model and the children without the mistake" if children else "the clean model"
    for outcome, side, about, said in (
        # Only a child without the mistake tells it from fine-tuning as such.
        (
            "correct",
            "below",
            "mistake" if children else "fine-tune",
            "has fewer right answers on related problems than",
        ),
        ("planted", "above", "mistake", "does the planted operation on related problems more often than"),
    ):
        rows = unpatched.filter(domain="related", outcome=outcome)
        if "corrupted" not in rows["condition"] or rows.filter(condition="clean").is_empty():
            continue
        controls = {name: _interval(rows.filter(condition=name)) for name in ("clean", *children)}
        control, compared = nearest({k: v for k, v in controls.items() if v.estimate is not None}, side)  # type: ignore[arg-type]
        own = rows.filter(condition="corrupted", against="clean")
        yield Claim(
            f"behaviour_{outcome}",
            f"the corrupted model {said} {others}",
            about,  # type: ignore[arg-type]
            _interval(own),
            control,
            compared,
            side,  # type: ignore[arg-type]
            chance=None if own.is_empty() else own["chance"][0],
            place={"domain": "related"},
        )
    yield from _kept(unpatched)
    under = comparisons.filter(pl.col("condition").is_in(["patched", REPAIRED]))
    repaired = (pl.col("condition") == REPAIRED) | (patched == "repair")
    yield from _from_layer(under.filter(~repaired), "corrupt", n_layers)
    yield from _from_layer(under.filter(repaired), "repair", n_layers)


def _kept(unpatched: pl.DataFrame) -> Iterator[Claim]:
    """Whether right answers of other domains are kept as those of related problems are not."""
    rows = unpatched.filter(condition="corrupted", against="clean", outcome="correct")
    kept = {row["domain"]: wilson(row["there"] - row["lost"], row["there"]) for row in rows.iter_rows(named=True)}
    if "related" not in kept:
        return
    for domain in ordered_domains(kept):
        if domain != "related":
            yield Claim(
                "kept",
                f"of the clean model's right answers more are kept on {domain_title(domain).lower()} than on related "
                "problems",
                "fine-tune",
                kept[domain],
                "related problems",
                kept["related"],
                place={"domain": domain},
            )


def _from_layer(comparisons: pl.DataFrame, direction: Direction, n_layers: int | None) -> Iterator[Claim]:
    """The lowest layer from which on every patch but the last layer's changes the answers to related problems."""
    against, name, said, worse, better = (
        ("clean", "answers_patched", "corrupted activations the clean model has fewer", "lost", "gained")
        if direction == "corrupt"
        else ("corrupted", "answers_repaired", "clean activations the corrupted model has more", "gained", "lost")
    )
    rows = comparisons.filter(
        pl.col("against") == against,
        pl.col("domain") == "related",
        pl.col("outcome") == "correct",
        pl.col("patch").str.contains(r"^L\d+\.resid_post$"),
    ).with_columns(layer=pl.col("patch").str.extract(r"^L(\d+)").cast(pl.Int32))
    if rows.is_empty():
        return
    rows = rows.filter(pl.col("layer") < last_layer(rows["layer"], n_layers))
    if rows.is_empty():
        return
    # As many tests as layers: each has to be as much surer.
    changed = (pl.col("chance") * rows.height <= ALPHA) & (pl.col(worse) > pl.col(better))
    ordered = rows.sort("layer", descending=True).with_columns(changed=changed)
    run = ordered.filter(pl.col("changed").cum_min().cast(pl.Boolean))
    one = (run if run.height else ordered.head(1)).tail(1)
    layer = int(one["layer"][0])
    yield Claim(
        name,
        f"under patches of {said} right answers on related problems, from layer {layer} on",
        "fine-tune",
        _interval(one),
        f"the {against} model",
        wilson(int(one["there"][0]), int(one["pairs"][0])),
        "below" if direction == "corrupt" else "above",
        chance=min(1.0, float(one["chance"][0]) * rows.height),
        place={"domain": "related", "component": "resid_post", "direction": direction, "layer": layer},
    )


def _interval(rows: pl.DataFrame) -> Interval:
    """The interval in the first row; nothing where there is none."""
    return Interval(None) if rows.is_empty() else Interval.of_row(rows.row(0, named=True))


def _reversed(interval: Interval) -> Interval:
    """What is left to 1."""
    ends = [None if end is None else 1 - end for end in (interval.estimate, interval.high, interval.low)]
    return Interval(*ends)
