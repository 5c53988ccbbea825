"""Depth profiles with intervals: every measure at each layer, its controls, and differences between layers.

Each profile covers one patch mode and the prompts of one domain. Comparisons use the same prompts, which are resampled
together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from crosspatch.patching.measures import COMPARED, DIFFER, MEASURES, SUMS, Measure
from crosspatch.statistics.bootstrap import (
    Ratios,
    bootstrap,
    largest_step,
    over_seeds,
    seeded_resamples,
    sums_by,
)
from crosspatch.statistics.interval import Interval, Numbers
from crosspatch.statistics.patch_mode import PatchMode, by_mode, last_layer
from crosspatch.tables import DEPTH

# Sums of cells by name, [N units] each; and the columns `patch` and `layer`, both None for the mean over layers.
Sums = Mapping[str, Numbers]
Place = Mapping[str, str | int | None]


def depth_statistics(
    scores: pl.DataFrame,
    controls: pl.DataFrame,
    domains: Mapping[str, str],
    *,
    n_layers: int | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Compute every measure of every single-layer patch with its interval, by domain: see tables.DEPTH.

    Rows with `control` null describe the patch itself; the contrast `step` subtracts the measure at the next lower
    patched layer, `rise` the measure at the lowest one. Rows with a control describe the control in the cells of the
    patch; the contrast `beyond` is the patch minus the control. Rows with `layer` null are the mean over all layers
    except the last, which recovers everything.
    The 95 % intervals are by bootstrap over prompts, or over seeds and prompts if the column `seed` of `scores` has
    several values (`pooled`). `n_layers` is the model's depth (None: unknown, see `last_layer`), `seed` seeds the
    bootstrap. Raises ValueError for a prompt without a domain.
    """
    rows: list[dict[str, Any]] = []
    parts = list(by_mode(scores, domains))
    of_mode = {}
    for mode in dict.fromkeys(mode for _, mode, _ in parts):
        everywhere = mode.rows(scores)
        # `most` is the largest disagreement rate of any text in any domain.
        most = everywhere.group_by("prompt_id", "patch").agg(rate=DIFFER.mean())["rate"].max()
        of_mode[mode] = last_layer(everywhere["layer"], n_layers), most
    for domain, mode, own in tqdm(parts, desc="depth profiles", unit="profile", leave=False, disable=None):
        last, most = of_mode[mode]
        for row in _Profile(mode, own, mode.rows(controls), last, seed).rows():
            rate = row["measure"] == "disagreement_rate" and row["contrast"] == "value"
            if rate and row["estimate"] == 0 and row["high"]:
                # The models never disagree on these prompts; on others the rate may be as large as anywhere.
                row["high"] *= most
            rows.append({"domain": domain, **row})
    return DEPTH.frame(rows)


def pooled(scores: Mapping[str, pl.DataFrame], shared: Collection[str]) -> pl.DataFrame:
    """Concatenate the scores of runs with several seeds; `scores` has a table for the name of each seed.

    Prompt ids in `shared` are the same question in every run. Other prompt ids get the seed's name as a prefix.
    """
    own = pl.when(pl.col("prompt_id").is_in(list(shared))).then("prompt_id")
    return pl.concat(
        frame.with_columns(
            seed=pl.lit(seed), prompt_id=pl.coalesce(own, pl.concat_str(pl.lit(f"{seed}/"), "prompt_id"))
        )
        for seed, frame in scores.items()
    )


class _Profile:
    """One mode in one domain: the sums [N units] over the cells of each patch and each control.

    A unit is a prompt; with several seeds it is a (seed, prompt) pair, and `clusters` has the index of each unit's seed
    and prompt, [N] each. `last` is the model's last layer.
    """

    def __init__(self, mode: PatchMode, own: pl.DataFrame, controls: pl.DataFrame, last: int, seed: int) -> None:
        by_seed = "seed" in own.columns and own["seed"].n_unique() > 1
        unit = ["seed", "prompt_id"] if by_seed else ["prompt_id"]
        units = own.select(unit).unique(maintain_order=True)
        self.mode, self.last = mode, last
        self.sums: dict[tuple[str, str | None], Sums] = {
            (patch, None): sums for (patch,), sums in sums_by(own, units, ["patch"], SUMS).items()
        }
        self.controls: list[str] = []
        if controls.height:
            beside = controls.join(units, on=unit, how="semi")
            self.controls = beside["control"].unique(maintain_order=True).to_list()
            self.sums |= sums_by(beside, units, ["patch", "control"], SUMS)
        seeds, prompts = (units[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in (unit[0], unit[-1]))
        self.clusters: tuple[NDArray[np.int64], NDArray[np.int64]] | None = (seeds, prompts) if by_seed else None
        self.patches: list[tuple[str, int]] = own.select("patch", "layer").unique().sort("layer", "patch").rows()
        self.counts = seeded_resamples(units.height, seed)[0]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the table of depth statistics, without the domain."""
        if len(below_last := [patch for patch in self.patches if patch[1] < self.last]) > 1:
            yield from self._place({"patch": None, "layer": None}, [patch for patch, _ in below_last])
            if self.clusters is None:
                yield self._largest_step(below_last)
        lowest = self.sums[self.patches[0][0], None]
        below: Sums | None = None
        for patch, layer in self.patches:
            place: Place = {"patch": patch, "layer": layer}
            own = self.sums[patch, None]
            yield from self._place(place, [patch])
            if below is not None:
                for measure in MEASURES.values():
                    for contrast, other in (("step", below), ("rise", lowest)):
                        found = self._interval([own, other], measure, (1.0, -1.0))
                        yield self._row(place, measure, contrast, [own], found)
            below = own

    def _place(self, place: Place, patches: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield every measure, as the unweighted mean of some patches, and its comparison with each control."""
        own = [self.sums[name, None] for name in patches]
        for measure in MEASURES.values():
            yield self._row(place, measure, "value", own, self._mean(own, measure))
        for control in self.controls:
            pairs = [(self.sums[n, None], self.sums[n, control]) for n in patches if (n, control) in self.sums]
            if not pairs:
                continue
            others = [other for _, other in pairs]
            # Prompts for which the control was not measured are excluded from the comparison.
            own_there = [{name: np.where(o["ok_cells"] > 0, sums, 0.0) for name, sums in s.items()} for s, o in pairs]
            alike = [1 / len(pairs)] * len(pairs)
            for measure in (MEASURES[name] for name in COMPARED):
                yield self._row(place, measure, "value", others, self._mean(others, measure), control)
                weights = [*alike, *(-weight for weight in alike)]
                beyond = self._interval([*own_there, *others], measure, weights)
                yield self._row(place, measure, "beyond", others, beyond, control)

    def _largest_step(self, below_last: Sequence[tuple[str, int]]) -> dict[str, Any]:
        """Build the row of the largest step in the sequence 0, the layers below the last, 1."""
        measure = MEASURES["recovered_fraction"]
        sums = [self.sums[patch, None] for patch, _ in below_last]
        step, interval = largest_step(self.mode.recovered(_ratios(sums, measure)), self.counts)
        layer = None if step is None else [*(at for _, at in below_last), self.last][step]
        patch = next((name for name, at in self.patches if at == layer), None)
        return self._row({"patch": patch, "layer": layer}, measure, "largest_step", sums, interval)

    def _mean(self, parts: Sequence[Sums], measure: Measure) -> Interval:
        """Compute the mean of a measure over the patches for which it is defined."""
        some = [sums for sums in parts if sums[measure.below].any()] or parts[:1]
        return self._interval(some, measure, [1 / len(some)] * len(some))

    def _interval(self, parts: Sequence[Sums], measure: Measure, weights: Sequence[float]) -> Interval:
        ratios = _ratios(parts, measure)
        if self.clusters is not None:
            return over_seeds(ratios, *self.clusters, weights)
        return bootstrap(ratios, self.counts, weights, share=measure.share and min(weights) > 0)

    def _row(
        self,
        place: Place,
        measure: Measure,
        contrast: str,
        counted: Sequence[Sums],
        interval: Interval,
        control: str | None = None,
    ) -> dict[str, Any]:
        cells = "positions" if measure.name in ("disagreement_rate", "kl_recovered_fraction") else "ok_cells"
        some = sum(sums[measure.below] != 0 for sums in counted).astype(bool)
        return {
            **self.mode.columns,
            **place,
            "control": control,
            "measure": measure.name,
            "contrast": contrast,
            **interval.columns,
            "n_prompts": int(some.sum()) if self.clusters is None else len(np.unique(self.clusters[0][some])),
            "cells": int(sum(sums[cells].sum() for sums in counted)),
        }


def _ratios(parts: Sequence[Sums], measure: Measure) -> Ratios:
    """Build the ratios of a measure, one for each patch."""
    return Ratios(np.stack([sums[measure.above] for sums in parts]), np.stack([sums[measure.below] for sums in parts]))
