"""Disagreement rate and recovered fraction by class of token.

The two are separate measures, since a class may score high only because the models disagree there. The `excess` is the
measure of a class minus that of all other cells (same prompts, same layers), with an interval over prompts and a
permutation test within texts. In the late layers each class is also compared with the controls in the same cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from crosspatch.patching.measures import CELLS, MEASURES, SUMS, Measure
from crosspatch.statistics.bootstrap import Ratios, bootstrap, seeded_resamples, sums_by
from crosspatch.statistics.interval import Numbers
from crosspatch.statistics.patch_mode import by_mode, last_layer, late_from
from crosspatch.statistics.permutation import LabelledText, excess_p_values
from crosspatch.statistics.token_class import CLASSES, with_class
from crosspatch.tables import CONTROLS, TOKENS

COUNTED = ("disagreement_rate", "mean_cts", "recovered_fraction", "flip_rate")
# The measures whose excess is tested.
TESTED = ("disagreement_rate", "recovered_fraction")

# Sums over cells by name, each an array [classes, layers, prompts].
_Sums = Mapping[str, Numbers]


def token_statistics(
    scores: pl.DataFrame,
    domains: Mapping[str, str],
    *,
    controls: pl.DataFrame | None = None,
    texts: Mapping[int, str] | None = None,
    n_layers: int | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Compute the measures of each token class, by domain and single-layer patch: see tables.TOKENS.

    Rows with layer null cover all layers except the last (where `resid_post` recovers everything for any token), or
    only the late ones of these. `texts` maps token ids to texts (None: generated tokens only), `n_layers` is the
    model's depth (None: unknown, see `last_layer`), `seed` seeds bootstrap and permutations. Raises ValueError for a
    prompt without a domain.
    """
    if texts is None:
        texts = dict(scores.select("token_id", "token").unique("token_id").iter_rows())
    beside = with_class(CONTROLS.frame() if controls is None else controls, texts)
    return _statistics(with_class(scores, texts), beside, "class", CLASSES, domains, n_layers, seed)


def mistake_statistics(
    mistakes: pl.DataFrame, domains: Mapping[str, str], *, n_layers: int | None = None, seed: int = 0
) -> pl.DataFrame:
    """Compute the same measures by kind of mistake (word, sign, number, none) at the tokens of wrong solutions."""
    labelled = mistakes.with_columns(pl.col("span").fill_null("none").alias("class"))
    none = with_class(CONTROLS.frame(), {})
    return _statistics(labelled, none, "span", ("word", "sign", "number", "none"), domains, n_layers, seed)


def _statistics(
    labelled: pl.DataFrame,
    controls: pl.DataFrame,
    by: str,
    classes: Sequence[str],
    domains: Mapping[str, str],
    n_layers: int | None,
    seed: int,
) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for domain, mode, own in by_mode(labelled, domains):
        beside = mode.rows(controls.filter(pl.col("prompt_id").is_in(own["prompt_id"].unique().to_list())))
        for depth, layers in _depths(own, n_layers):
            which = pl.col("layer").is_in(layers)
            late = beside.filter(which) if depth["late"] else beside.clear()
            table = _Table(own.filter(which), late, classes, seed)
            rows += [{"domain": domain, **mode.columns, **depth, "by": by, **row} for row in table.rows()]
    return TOKENS.frame(rows)


def _depths(own: pl.DataFrame, n_layers: int | None) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Yield the columns `layer` and `late` with the layers they cover: all but the last, the late ones, or one."""
    layers = own["layer"].unique().sort()
    last = last_layer(layers, n_layers)
    below = layers.filter(layers < last)
    if len(below) > 1:
        yield {"layer": None, "late": False}, below.to_list()
    if late := below.filter(below >= late_from(last)).to_list():
        yield {"layer": None, "late": True}, late
    for layer in layers:
        yield {"layer": layer, "late": False}, [layer]


class _Table:
    """The cells of some layers, with arrays [classes, layers, prompts] of their sums and of each control's sums."""

    def __init__(self, own: pl.DataFrame, controls: pl.DataFrame, classes: Sequence[str], seed: int) -> None:
        self.own, self.classes = own, classes
        self.layers = own["layer"].unique().sort().to_list()
        self.prompts = own.select("prompt_id").unique(maintain_order=True)
        self.sums = self._summed(own)
        by_control = controls.partition_by("control", as_dict=True, maintain_order=True)
        self.controls = {str(name): self._summed(part) for (name,), part in by_control.items()}
        self.counts, self.rng = seeded_resamples(self.prompts.height, seed)

    def _summed(self, cells: pl.DataFrame) -> _Sums:
        found = sums_by(cells, self.prompts, ["class", "layer"], SUMS)
        nothing = dict.fromkeys(SUMS, np.zeros(self.prompts.height))
        at = [[found.get((name, layer), nothing) for layer in self.layers] for name in self.classes]
        return {name: np.array([[sums[name] for sums in of_class] for of_class in at]) for name in SUMS}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each class and measure, and for the excess."""
        tested, transfer = {name: self._p_values(name) for name in TESTED}, MEASURES["recovered_fraction"]
        of_all = self.sums["disagreements"].sum(1)
        for i, name in enumerate(self.classes):
            positions = self.sums["positions"][i].sum(0)
            if not positions.any():
                continue
            for measure in (MEASURES[each] for each in COUNTED):
                own = self._of_class(self.sums, i, measure)
                yield self._row(name, measure.name, own, share=measure.share)
                if measure.name in TESTED:
                    excess, p_value = self._class_and_rest(i, measure), tested[measure.name][i]
                    yield self._row(name, measure.name, excess, own.below, contrast="excess", p_value=p_value)
            share = Ratios(of_all[i], of_all.sum(0))
            yield self._row(name, "share_of_disagreements", share, positions, share=True)
            for control, sums in self.controls.items():
                own = self._of_class(sums, i, transfer)
                if own.below.any():
                    yield self._row(name, transfer.name, own, control=control)

    @staticmethod
    def _of_class(sums: _Sums, i: int, measure: Measure) -> Ratios:
        return Ratios(sums[measure.above][i].sum(0), sums[measure.below][i].sum(0))

    def _class_and_rest(self, i: int, measure: Measure) -> Ratios:
        """Return the ratios of a class and of all other cells, weighted so that both cover the same layers.

        Each patched layer generates its own text, so late layers, where much is recovered, have other tokens than early
        ones. Overlap weights (Li, Morgan and Zaslavsky 2018) weight the class at each layer by the other cells' share
        there, and the other cells by the class's share, so a layer with only one of them has weight 0.
        """
        above, below = self.sums[measure.above], self.sums[measure.below]
        at_layer = below.sum((0, 2))
        own = np.divide(below[i].sum(1), at_layer, out=np.zeros(len(at_layer)), where=at_layer != 0)
        weights = (1 - own)[:, None], own[:, None]
        parts = [(sums[i], sums.sum(0) - sums[i]) for sums in (above, below)]
        return Ratios(*(np.stack([(w * part).sum(0) for w, part in zip(weights, of, strict=True)]) for of in parts))

    def _p_values(self, name: str) -> list[float | None]:
        """Compute the permutation test's p-value of each class, after subtracting each layer's mean from its cells."""
        measure: Measure = MEASURES[name]
        above, below = CELLS[measure.above], CELLS[measure.below]
        means = {
            layer: self.sums[measure.above][:, at].sum() / (self.sums[measure.below][:, at].sum() or 1.0)
            for at, layer in enumerate(self.layers)
        }
        mean = pl.col("layer").replace_strict(means, return_dtype=pl.Float64)
        label = pl.col("class").replace_strict({name: i for i, name in enumerate(self.classes)}, return_dtype=pl.Int64)
        # Sorted by text and step.
        cells = self.own.sort("prompt_id", "layer", "step").select(
            "layer", prompt=pl.col("prompt_id").rank("dense"), label=label, above=above - mean * below, below=below
        )
        if not measure.share:
            cells = cells.filter(pl.col("below") != 0)
        texts = [
            LabelledText(int(prompt), *(part[column].to_numpy() for column in ("above", "below", "label")))
            for (prompt, _), part in cells.partition_by("prompt", "layer", as_dict=True, maintain_order=True).items()
        ]
        return excess_p_values(texts, len(self.classes), self.rng)

    def _row(
        self,
        name: str,
        measure: str,
        ratios: Ratios,
        counted: Numbers | None = None,
        *,
        control: str | None = None,
        contrast: str = "value",
        p_value: float | None = None,
        share: bool = False,
    ) -> dict[str, Any]:
        """Build a row; `n_prompts` counts the prompts for which `counted` (None: the denominator) is not 0."""
        interval = bootstrap(ratios, self.counts, (1.0, -1.0)[: len(ratios.above)], share=share)
        return {
            "class": name,
            "control": control,
            "measure": measure,
            "contrast": contrast,
            **interval.columns,
            "p_value": p_value,
            "n_prompts": int(((ratios.below if counted is None else counted) != 0).sum()),
        }
