"""The layer at which half of the effect is recovered, and the layer at which half of the right answers are lost.

The layer at which a difference first becomes significant depends on the number of prompts; the layer at which a curve
crosses one half does not. The curve over layers rises except for noise, so its values are sorted first (rearrangement,
Chernozhukov, Fernández-Val and Galichon 2010), then interpolated linearly between the patched layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from crosspatch.config import Direction
from crosspatch.patching.measures import MEASURES, SUMS
from crosspatch.statistics.bootstrap import Ratios, percentiles, seeded_resamples, sums_by
from crosspatch.statistics.domain import ordered_domains
from crosspatch.statistics.interval import Interval, Numbers
from crosspatch.statistics.patch_mode import by_mode, last_layer, patched_layers
from crosspatch.tables import HALFWAY, REPAIRED


def halfway(
    scores: pl.DataFrame,
    behaviour: pl.DataFrame,
    domains: Mapping[str, str],
    *,
    n_layers: int | None = None,
    patched: Direction = "corrupt",
    seed: int = 0,
) -> pl.DataFrame:
    """Compute both layers for `resid_post` by domain, with 95 % intervals over prompts: see tables.HALFWAY.

    The last layer recovers the whole effect by construction, so every curve crosses one half there at the latest. The
    answers are those that the clean model has right and the corrupted model has wrong: the direction corrupt loses
    them, repair regains them. `patched` is the direction of texts with the condition `patched`. Raises ValueError for a
    prompt without a domain.
    """
    rows = [*_effects(scores, domains, n_layers, seed), *_answers(behaviour, n_layers, patched, seed)]
    return HALFWAY.frame(rows)


def crossing(ratios: Ratios, layers: Sequence[int], last: int, counts: Numbers) -> Interval:
    """Find the layer at which the curve of K ratios at K layers crosses one half; at layer `last` the curve is 1.

    There is no interval for too few prompts (see `bootstrap`), and no estimate if a ratio is undefined.
    """
    if ratios.undefined:
        return Interval(None)
    at = np.array([*layers, last], dtype=float)
    estimate = float(_crossed(ratios.values(), at)[0])
    drawn = _crossed(ratios.values(counts[ratios.defined(counts)]), at)
    found = percentiles(estimate, drawn, ratios)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, float(at[0])), high=min(found.high, float(last)))


def _crossed(curves: Numbers, layers: Numbers) -> Numbers:
    """Find the layer at which each curve [curves, K] reaches one half; at the last of the K + 1 layers it is 1."""
    rising = np.pad(np.sort(curves, axis=1), ((0, 0), (0, 1)), constant_values=1.0)
    place = (rising < 0.5).sum(1)
    before = np.maximum(place - 1, 0)
    rows = np.arange(len(rising))
    low, high = rising[rows, before], rising[rows, place]
    part = np.divide(0.5 - low, high - low, out=np.ones(len(rows)), where=high > low)
    found: Numbers = np.where(place == 0, layers[0], layers[before] + part * (layers[place] - layers[before]))
    return found


def _effects(
    scores: pl.DataFrame, domains: Mapping[str, str], n_layers: int | None, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the layer with half of the recovered fraction, for each domain and mode of `resid_post`."""
    measure = MEASURES["recovered_fraction"]
    for domain, mode, own in by_mode(scores.filter(component="resid_post"), domains):
        last = last_layer(mode.rows(scores)["layer"], n_layers)
        below_last = own.filter(pl.col("layer") < last)
        prompts = below_last.select(pl.col("prompt_id").unique().sort())
        sums = sums_by(below_last, prompts, ["layer"], SUMS)
        layers = sorted(layer for (layer,) in sums)
        if len(layers) < 2:
            continue
        above, below = (np.stack([sums[layer,][name] for layer in layers]) for name in (measure.above, measure.below))
        curve = mode.recovered(Ratios(above, below))
        found = crossing(curve, layers, last, seeded_resamples(prompts.height, seed)[0])
        yield {"domain": domain, "of": "effect", **mode.columns, **found.columns, "n_prompts": curve.units}


def _answers(behaviour: pl.DataFrame, n_layers: int | None, patched: Direction, seed: int) -> Iterator[dict[str, Any]]:
    """Yield by domain the layer at which half of the clean model's additional right answers are lost or regained."""
    right = behaviour.with_columns(right=pl.col("verdict") == "correct")
    unpatched = right.filter(pl.col("patch").is_null())
    clean, corrupted = (unpatched.filter(pl.col("condition") == name) for name in ("clean", "corrupted"))
    lost = clean.filter("right").join(corrupted.filter(~pl.col("right")), on="prompt_id", how="semi")
    under = patched_layers(right).filter(component="resid_post").join(lost, on="prompt_id", how="semi")
    if under.is_empty():
        return
    last = last_layer(under["layer"], n_layers)
    for condition, direction in (("patched", patched), (REPAIRED, "repair")):
        some = under.filter(condition=condition).filter(pl.col("layer") < last)
        for domain in ordered_domains(some["domain"]):
            flipped = some.filter(domain=domain).with_columns(flipped=pl.col("right") == (direction == "repair"))
            table = flipped.pivot("layer", index="prompt_id", values="flipped", sort_columns=True).drop_nulls()
            layers = [int(name) for name in table.columns[1:]]
            if len(layers) < 2 or table.is_empty():
                continue
            order = np.argsort(layers)
            above = table.select(pl.exclude("prompt_id").cast(pl.Float64)).to_numpy().T[order]
            curve = Ratios(above, np.ones_like(above))
            counts = seeded_resamples(table.height, seed)[0]
            found = crossing(curve, sorted(layers), last, counts)
            yield {
                "domain": domain,
                "of": "answers",
                "component": "resid_post",
                "direction": direction,
                "persistence": None,
                "schedule": None,
                **found.columns,
                "n_prompts": table.height,
            }
