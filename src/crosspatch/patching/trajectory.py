"""What a run is given, and what it returns: prompts with patches, and the texts that these generate, with scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from crosspatch.config import Direction, Engine, Persistence
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import by_direction
from crosspatch.patching.measures import Recovered
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Steps, transfer_scores
from crosspatch.tables import SCORES


@dataclass(frozen=True)
class PatchRun:
    """The settings that all trajectories of a run share.

    `small_denominator` is in logits. `float32_unembedding` multiplies by the unembedding in float32, whatever the
    dtype of the weights. `condition` is the name of the patched texts in the table of texts. `engine` generates and
    scores.
    """

    direction: Direction = "corrupt"
    persistence: Persistence = "transient"
    max_new_tokens: int = 1024
    small_denominator: float = 1e-4
    float32_unembedding: bool = False
    condition: str = "patched"
    engine: Engine = "cached"

    @property
    def target_and_source(self) -> tuple[Literal["clean", "corrupted"], Literal["clean", "corrupted"]]:
        """The names of the patched model (target) and of the model that gives the activations (source)."""
        return by_direction(self.direction, "clean", "corrupted")


@dataclass
class OwnText:
    """The text that an unpatched model generates; `tokens` include the stop token."""

    tokens: list[int] = field(default_factory=list)
    stop_reason: Literal["eos", "limit"] = "limit"

    def text(self, prompts: PromptFormat) -> str:
        """The text, without special tokens."""
        return prompts.decode(self.tokens[:-1] if self.stop_reason == "eos" else self.tokens)


@dataclass
class Trajectory:
    """The tokens that one patch generates after one prompt."""

    patch: Patch
    prompt_length: int
    steps: Steps = field(default_factory=Steps)
    stop_reason: Literal["eos", "limit"] = "limit"

    @property
    def tokens(self) -> list[int]:
        """The generated tokens, including the stop token."""
        return self.steps.column("token").tolist()

    def text(self, prompts: PromptFormat) -> str:
        """The generated text, without special tokens."""
        return OwnText(self.tokens, self.stop_reason).text(prompts)

    def frame(
        self, prompt_id: str, run: PatchRun, prompts: PromptFormat, at: Sequence[int] | None = None
    ) -> pl.DataFrame:
        """Return the steps as a table `SCORES`; `at` are their numbers, by default counted from 0.

        The columns are for clean and corrupted, not for target and source.
        """
        steps = self.steps
        numbers = np.arange(len(steps), dtype=np.int32) if at is None else np.array(at, np.int32)
        token = steps.column("token")
        ids, index = np.unique(token, return_inverse=True)
        texts = np.array([prompts.token_text(int(id)) for id in ids], object)
        of_target, of_source = (
            [steps.column(f"{what}_{name}") for what in ("y", "delta")] for name in ("target", "source")
        )
        (y_clean, delta_clean), (y_corrupt, delta_corrupted) = by_direction(run.direction, of_target, of_source)
        patched = steps.column("delta_patched")
        cts, status = transfer_scores(
            delta_clean,
            delta_corrupted,
            patched,
            agree=~steps.disagree,
            applied=steps.column("applied"),
            small_denominator=run.small_denominator,
        )
        columns = {
            "prompt_id": prompt_id,
            **self.patch.columns,
            "direction": run.direction,
            "persistence": run.persistence,
            "step": numbers,
            "position": self.prompt_length - 1 + numbers,
            "token_id": token,
            "token": texts[index].tolist(),
            "clean_token_id": y_clean,
            "corrupted_token_id": y_corrupt,
            "delta_clean": delta_clean,
            "delta_corrupted": delta_corrupted,
            "delta_patched": patched,
            "cts": pl.Series(cts).fill_nan(None),
            "status": status.tolist(),
            **{name: steps.column(name) for name in ("kl_clean", "kl_patched", "rank_corrupted")},
        }
        return pl.DataFrame(columns).cast(SCORES.dtypes).select(*SCORES.columns)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Prompt:
    """One prompt of a run: its token ids, and the patches to generate under.

    `known` are texts (token ids) to draft from, such as the unpatched answers. With `answers`, the unpatched models'
    answers are generated too.
    """

    ids: list[int]
    patches: Sequence[Patch]
    known: Sequence[Sequence[int]] = ()
    answers: bool = False


@dataclass
class Written:
    """The texts generated from one prompt: a trajectory for each patch, and the unpatched models' answers, if any."""

    trajectories: list[Trajectory]
    target: OwnText
    source: OwnText


def recovered(trajectories: Iterable[Trajectory]) -> Recovered:
    """Sum `moved` and `gap` of all trajectories over the steps at which the models disagree."""
    apart = [(of.moved[of.disagree].sum(), of.gap[of.disagree].sum()) for of in (t.steps for t in trajectories)]
    return Recovered(float(sum(moved for moved, _ in apart)), float(sum(gap for _, gap in apart)))
