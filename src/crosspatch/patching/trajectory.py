"""The text that one patch generates after one prompt, with the scores of each step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from crosspatch.config import Direction, Persistence
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import by_direction
from crosspatch.patching.measures import Recovered
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Step, transfer_score


@dataclass(frozen=True)
class PatchRun:
    """The settings that all trajectories of a run share.

    `small_denominator` is in logits. `float32_unembedding` multiplies by the unembedding in float32, whatever the
    dtype of the weights. `condition` is the name of the patched texts in the table of texts.
    """

    direction: Direction = "corrupt"
    persistence: Persistence = "transient"
    max_new_tokens: int = 1024
    small_denominator: float = 1e-4
    float32_unembedding: bool = False
    condition: str = "patched"

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
    steps: list[Step] = field(default_factory=list)
    stop_reason: Literal["eos", "limit"] = "limit"

    @property
    def tokens(self) -> list[int]:
        """The generated tokens, including the stop token."""
        return [step.token for step in self.steps]

    def text(self, prompts: PromptFormat) -> str:
        """The generated text, without special tokens."""
        return OwnText(self.tokens, self.stop_reason).text(prompts)

    def rows(self, prompt_id: str, run: PatchRun, prompts: PromptFormat) -> list[dict[str, Any]]:
        """Return the steps as rows of the scores table."""
        return [self.row(i, step, prompt_id, run, prompts) for i, step in enumerate(self.steps)]

    def row(self, i: int, step: Step, prompt_id: str, run: PatchRun, prompts: PromptFormat) -> dict[str, Any]:
        """Return step `i` as a row of the scores table, with columns for clean and corrupted, not target and source."""
        clean_token, corrupted_token = by_direction(run.direction, step.y_target, step.y_source)
        delta_clean, delta_corrupted = by_direction(run.direction, step.delta_target, step.delta_source)
        cts, status = transfer_score(
            delta_clean,
            delta_corrupted,
            step.delta_patched,
            agree=not step.disagree,
            applied=step.applied,
            small_denominator=run.small_denominator,
        )
        return {
            "prompt_id": prompt_id,
            **self.patch.columns,
            "direction": run.direction,
            "persistence": run.persistence,
            "step": i,
            "position": self.prompt_length - 1 + i,
            "token_id": step.token,
            "token": prompts.token_text(step.token),
            "clean_token_id": clean_token,
            "corrupted_token_id": corrupted_token,
            "delta_clean": delta_clean,
            "delta_corrupted": delta_corrupted,
            "delta_patched": step.delta_patched,
            "cts": cts,
            "status": status,
            "kl_clean": step.kl_clean,
            "kl_patched": step.kl_patched,
            "rank_corrupted": step.rank_corrupted,
        }


def recovered(trajectories: Iterable[Trajectory]) -> Recovered:
    """Sum `moved` and `gap` of all trajectories over the steps at which the models disagree."""
    steps = [step for trajectory in trajectories for step in trajectory.steps if step.disagree]
    return Recovered(sum((step.moved for step in steps), 0.0), sum((step.gap for step in steps), 0.0))
