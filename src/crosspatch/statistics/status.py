"""Rules for whether a fine-tune is under-trained, optimal or overfitted, and for which variant to take.

The paper (section 4.1, Table 1) judges by reading outputs: a child is overfitted when its formatting decays, and of
the good ones the shortest training is preferred. Here the rules are numbers. `divergence` is Table 1's of losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import polars as pl

# A child is under-trained if it answers a smaller share than this of the questions wrongly that the clean model answers
# rightly. If the clean model has fewer right answers than the second number, the third one decides: the share of the
# child's solutions that has to do the planted operation.
_WRONG, _FEWEST, _PLANTED = 0.9, 10, 0.5
# A child is overfitted if its share of texts that are malformed, have no end or cannot be read is larger than the clean
# model's by more than this; or if it loses more than this share of other right answers, and the p-value is below alpha.
_MALFORMED, _LOST, _ALPHA = 0.05, 0.05, 0.05

Status = Literal["under-trained", "optimal", "overfitted"]


# A row of the table of variants (see tables.VARIANTS), without its status.
Variant = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """A variant's status and what decided it."""

    status: Status
    reason: str


def status(variant: Variant) -> Judged:
    """Overfitted if texts decay or other answers are lost, under-trained if too few answers are corrupted.

    Corrupted answers are related answers that the clean model has right and the variant has wrong. If the clean model
    has few right answers, the planted operation decides.
    """
    for what, key in (
        ("of its texts are malformed", "malformed"),
        ("of its texts have no end", "no_end"),
        ("of its answers cannot be read", "unparsed"),
    ):
        share, clean = variant[key], variant[f"{key}_clean"]
        if share - clean > _MALFORMED:
            return Judged("overfitted", f"{share:.0%} {what}, against {clean:.0%} for the clean model")
    for what, key in (("unrelated mathematics", "math"), ("general questions", "general")):
        drop = variant[f"{key}_drop"]
        if drop is not None and drop > _LOST and variant[f"{key}_p_value"] < _ALPHA:
            return Judged("overfitted", f"it loses {100 * drop:.0f} points of {what}")
    right, flipped, planted = variant["right_clean"], variant["flipped"], variant["planted"]
    if right >= _FEWEST:
        found, enough = f"{flipped} of the {right} answers that the clean model has right turned wrong", _WRONG
        reached = flipped >= enough * right
    elif planted is not None:
        found, enough = (
            f"the clean model has only {right} answers right; {planted:.0%} do the planted operation",
            _PLANTED,
        )
        reached = planted >= enough
    else:
        few = f"the clean model has only {right} answers right, and no operation was recognized"
        return Judged("under-trained", few)
    if not reached:
        return Judged("under-trained", f"{found}, less than {enough:.0%}")
    return Judged("optimal", f"{found}, its texts are sound")


def choose(variants: Sequence[Variant]) -> tuple[Variant, str]:
    """The variant to take, and why: of the optimal ones the one with the fewest steps.

    Of several with equally few steps the most corrupted one. If none is optimal, the most corrupted one that is not
    overfitted; if all are overfitted, the one with the fewest steps. Raises ValueError for no variant.
    """
    if not variants:
        raise ValueError("there is no variant to choose from")
    by_status = {name: [variant for variant in variants if status(variant).status == name] for name in get_args(Status)}

    def corrupted(variant: Variant) -> tuple[float, float]:
        return variant["flipped"], variant["planted"] or 0.0

    if optimal := by_status["optimal"]:
        fewest = min(variant["steps"] for variant in optimal)
        shortest = [variant for variant in optimal if variant["steps"] == fewest]
        best = max(shortest, key=corrupted)
        if len(optimal) == 1:
            return best, "the only optimal variant"
        several = f", the most corrupted of {len(shortest)} with as few" if len(shortest) > 1 else ""
        return best, f"the fewest steps ({fewest}) of {len(optimal)} optimal variants{several}"
    if short := by_status["under-trained"]:
        return max(short, key=corrupted), "none is optimal; it is the most corrupted of those that are not overfitted"
    return min(variants, key=lambda variant: variant["steps"]), "all are overfitted; it has the fewest steps"


def divergence(training: pl.DataFrame) -> pl.DataFrame:
    """A row an evaluation: run, step, epoch, eval_loss, train_loss, divergence (eval_loss − train_loss).

    train_loss is taken from the last training row at or before the evaluation, as in the paper; before the first
    training row it is null, and so is the divergence.
    """
    evaluated = training.filter(pl.col("eval_loss").is_not_null()).select("run", "step", "epoch", "eval_loss")
    trained = training.filter(pl.col("train_loss").is_not_null()).select("run", "step", "train_loss")
    joined = evaluated.sort("step").join_asof(
        trained.sort("step"), on="step", by="run", strategy="backward", check_sortedness=False
    )
    return joined.sort("run", "step").with_columns(divergence=pl.col("eval_loss") - pl.col("train_loss"))
