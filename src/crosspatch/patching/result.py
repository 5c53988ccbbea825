"""What patching gives: scores and texts of some prompts under some patches. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from crosspatch.config import Direction
from crosspatch.errors import UsageError
from crosspatch.frames import REPAIRED
from crosspatch.models.chat import PromptFormat
from crosspatch.patching.measures import pooled

# Columns of scores that hold tokens by their ids.
_TOKENS = ("token_id", "clean_token_id", "corrupted_token_id")


@dataclass(frozen=True)
class PatchResult:
    """Scores and texts of one or several prompts under some patches.

    `scores` has a row for each (prompt, patch, step), `generations` one for each text (see crosspatch.frames).
    `vocabulary` has the texts by id of all tokens that some model wrote or wanted, as far as they were asked for.
    """

    scores: pl.DataFrame
    generations: pl.DataFrame
    vocabulary: Mapping[int, str] = field(default_factory=dict, repr=False)

    def text(self, patch: str, prompt_id: str | None = None, direction: Direction | None = None) -> str:
        """What was generated under a patch by its name, `L18.resid_post`, or by `clean` or `corrupted`.

        Without a direction it is the first that was patched. Raises UsageError where there is no such text.
        """
        named = (pl.col("patch") == patch) | (pl.col("patch").is_null() & (pl.col("condition") == patch))
        rows = self.generations.filter(named)
        if direction is not None:
            patched = self.scores["direction"].unique(maintain_order=True).to_list()
            called = REPAIRED if len(patched) > 1 and direction == "repair" else "patched"
            rows = rows.filter(pl.lit(direction in patched) & (pl.col("condition") == called))
        if prompt_id is not None:
            rows = rows.filter(pl.col("prompt_id") == prompt_id)
        if rows.is_empty():
            raise UsageError(f"nothing was generated under {patch}")
        return str(rows["text"][0])

    def profile(self) -> pl.DataFrame:
        """A row for each patch: how often the models disagree, and how much transfers where they do.

        Over all prompts together; the columns are those of `crosspatch.patching.measures.pooled`.
        """
        return pooled(self.scores)

    def _repr_html_(self) -> str:
        from crosspatch.patching.result_card import result_card

        return result_card(self).html


def token_texts(scores: pl.DataFrame, prompts: PromptFormat) -> dict[int, str]:
    """The texts by id of all tokens that some model wrote or wanted in scores."""
    ids = scores.unpivot(list(_TOKENS))["value"].unique().sort()
    return {token_id: prompts.token_text(token_id) for token_id in ids}
