"""What one (prompt, patch) generated, step by step, with its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crosspatch.config import Direction, Persistence
from crosspatch.models.chat import PromptFormat
from crosspatch.patching.scores import StepScores, to_lists, transfer_score
from crosspatch.patching.sites import Patch


@dataclass(frozen=True)
class PatchRun:
    """How every trajectory of a run is made: the experiment's settings without its prompts.

    `max_new_tokens` counts tokens, `small_denominator` is in logits.
    """

    direction: Direction = "corrupt"
    persistence: Persistence = "transient"
    max_new_tokens: int = 1024
    small_denominator: float = 1e-4


@dataclass
class Trajectory:
    """The tokens that one patch generates after one prompt, growing by one a step."""

    patch: Patch
    prompt_length: int
    steps: list[Mapping[str, float]] = field(default_factory=list)
    stop_reason: Literal["eos", "limit"] = "limit"

    @property
    def tokens(self) -> list[int]:
        """The generated tokens, the closing one included."""
        return [int(step["token"]) for step in self.steps]

    def text(self, prompts: PromptFormat) -> str:
        """The generated text, without special tokens."""
        said = self.tokens[:-1] if self.stop_reason == "eos" else self.tokens
        return prompts.decode(said)

    def rows(self, prompt_id: str, run: PatchRun, prompts: PromptFormat) -> list[dict[str, Any]]:
        """The trajectory as rows of the scores table."""
        return [self._row(i, step, prompt_id, run, prompts) for i, step in enumerate(self.steps)]

    def _row(
        self, i: int, step: Mapping[str, float], prompt_id: str, run: PatchRun, prompts: PromptFormat
    ) -> dict[str, Any]:
        clean_token, corrupted_token = int(step["clean_token"]), int(step["corrupted_token"])
        cts, status = transfer_score(
            step["delta_clean"],
            step["delta_corrupted"],
            step["delta_patched"],
            agree=clean_token == corrupted_token,
            small_denominator=run.small_denominator,
        )
        return {
            "prompt_id": prompt_id,
            "patch": self.patch.name,
            "component": self.patch.component,
            "layer": self.patch.layer,
            "head": None,
            "direction": run.direction,
            "persistence": run.persistence,
            "step": i,
            "position": self.prompt_length - 1 + i,
            "token_id": int(step["token"]),
            "token": str(prompts.tokenizer.decode([int(step["token"])])),
            "clean_token_id": clean_token,
            "corrupted_token_id": corrupted_token,
            "delta_clean": step["delta_clean"],
            "delta_corrupted": step["delta_corrupted"],
            "delta_patched": step["delta_patched"],
            "cts": cts,
            "status": status,
            "kl_clean": step["kl_clean"],
            "kl_patched": step["kl_patched"],
            "rank_corrupted": int(step["rank_corrupted"]),
        }


def extend(trajectories: list[Trajectory], scores: StepScores, stops: frozenset[int]) -> list[int]:
    """Append one step to each trajectory; returns the indices of those that go on."""
    columns = to_lists(scores)
    going = []
    for i, trajectory in enumerate(trajectories):
        trajectory.steps.append({name: values[i] for name, values in columns.items()})
        if int(columns["token"][i]) in stops:
            trajectory.stop_reason = "eos"
        else:
            going.append(i)
    return going
