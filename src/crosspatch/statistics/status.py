"""Rules that classify a fine-tune as under-trained, optimal or overfitted, and that choose a variant.

The paper (section 4.1, Table 1) judges by reading outputs: a child is overfitted if its formatting decays, and among
the good children the shortest training is preferred. Here the rules are numeric. `divergence` is the difference of
losses in Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

# Of the related questions that the clean model answers right, a child must answer at least the share _WRONG wrong, else
# it is under-trained. If the clean model has fewer than _FEWEST right answers, at least the share _PLANTED of the
# child's solutions must have the planted operation instead.
_WRONG, _FEWEST, _PLANTED = 0.9, 10, 0.5
# A child is overfitted if its share of texts that are malformed, have no end or cannot be parsed exceeds the clean
# model's by more than _MALFORMED; or if its share of right answers on other questions drops by more than _LOST with a
# p-value below _ALPHA.
_MALFORMED, _LOST, _ALPHA = 0.05, 0.05, 0.05

Status = Literal["under-trained", "optimal", "overfitted"]


# A row of the table of variants (see tables.VARIANTS), without its status.
Variant = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """A variant's status and the reason for it."""

    status: Status
    reason: str


def status(variant: Variant) -> Judged:
    """Classify a variant: overfitted if texts decay or other answers are lost, under-trained if few are corrupted.

    An answer is corrupted if the clean model answers a related question right and the variant answers it wrong. If the
    clean model has few right answers, the share of planted operations decides.
    """
    for what, key in (
        ("of its texts are malformed", "malformed"),
        ("of its texts have no end", "no_end"),
        ("of its answers are unparsed", "unparsed"),
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
        found, enough = f"{flipped} of the {right} right answers of the clean model flipped to wrong", _WRONG
        reached = flipped >= enough * right
    elif planted is not None:
        found, enough = (
            f"the clean model has only {right} right answers; {planted:.0%} use the planted operation",
            _PLANTED,
        )
        reached = planted >= enough
    else:
        few = f"the clean model has only {right} right answers, and no operation was recognized"
        return Judged("under-trained", few)
    if not reached:
        return Judged("under-trained", f"{found}, less than {enough:.0%}")
    return Judged("optimal", f"{found}, its texts are well-formed")


def choose(variants: Sequence[Variant]) -> tuple[Variant, str]:
    """Choose the optimal variant with the fewest steps, and return it with the reason.

    Of several such variants, choose the one with the most corrupted answers. If no variant is optimal, choose the
    under-trained one with the most corrupted answers; if all are overfitted, the one with the fewest steps. Raises
    ValueError if there is no variant.
    """
    if not variants:
        raise ValueError("there is no variant to choose from")
    optimal, short = (
        [variant for variant in variants if status(variant).status == wanted] for wanted in ("optimal", "under-trained")
    )

    def corrupted(variant: Variant) -> tuple[float, float]:
        return variant["flipped"], variant["planted"] or 0.0

    if optimal:
        fewest = min(variant["steps"] for variant in optimal)
        shortest = [variant for variant in optimal if variant["steps"] == fewest]
        best = max(shortest, key=corrupted)
        if len(optimal) == 1:
            return best, "the only optimal variant"
        several = f", the most corrupted of {len(shortest)} with as few" if len(shortest) > 1 else ""
        return best, f"the fewest steps ({fewest}) of {len(optimal)} optimal variants{several}"
    if short:
        return max(short, key=corrupted), "none is optimal; it is the most corrupted of those that are not overfitted"
    return min(variants, key=lambda variant: variant["steps"]), "all are overfitted; it has the fewest steps"


def divergence(training: pl.DataFrame) -> pl.DataFrame:
    """Compute eval_loss − train_loss of each evaluation: run, step, epoch, eval_loss, train_loss, divergence.

    train_loss is from the last training row at or before the evaluation, as in the paper; before the first training row
    train_loss and divergence are null.
    """
    evaluated = training.filter(pl.col("eval_loss").is_not_null()).select("run", "step", "epoch", "eval_loss")
    trained = training.filter(pl.col("train_loss").is_not_null()).select("run", "step", "train_loss")
    joined = evaluated.sort("step").join_asof(
        trained.sort("step"), on="step", by="run", strategy="backward", check_sortedness=False
    )
    return joined.sort("run", "step").with_columns(divergence=pl.col("eval_loss") - pl.col("train_loss"))
