"""Patching over prompts: `patch` for the Python API, the same call that each part of an experiment makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import polars as pl

from crosspatch.behaviour.answers import answer
from crosspatch.config import Component, Direction, Engine, Persistence
from crosspatch.errors import UsageError
from crosspatch.frames import GENERATIONS, SCORES
from crosspatch.models.pair import ModelPair, check_layers
from crosspatch.patching.engine import run_cached
from crosspatch.patching.reference import run_reference
from crosspatch.patching.sites import Patch, layer_patches
from crosspatch.patching.trajectory import PatchRun, Trajectory

Unpatched = Literal["clean", "corrupted"]
UNPATCHED: tuple[Unpatched, ...] = get_args(Unpatched)

ENGINES: dict[Engine, Callable[[ModelPair, list[int], list[Patch], PatchRun], list[Trajectory]]] = {
    "cached": run_cached,
    "reference": run_reference,
}


@dataclass(frozen=True)
class PatchResult:
    """Scores and texts of some prompts under some patches.

    `scores` has a row for each (prompt, patch, step), `generations` one for each text (see crosspatch.frames).
    """

    scores: pl.DataFrame
    generations: pl.DataFrame

    def text(self, patch: str, prompt_id: str | None = None) -> str:
        """What was generated under a patch by its name, `L18.resid_post`, or by `clean` or `corrupted`."""
        named = (pl.col("patch") == patch) | (pl.col("patch").is_null() & (pl.col("condition") == patch))
        rows = self.generations.filter(named)
        if prompt_id is not None:
            rows = rows.filter(pl.col("prompt_id") == prompt_id)
        if rows.is_empty():
            raise UsageError(f"nothing was generated under {patch}")
        return str(rows["text"][0])


def patch(
    pair: ModelPair,
    prompts: str | Iterable[str] | dict[str, str],
    *,
    layers: Literal["all"] | Iterable[int] = "all",
    component: Component = "resid_post",
    direction: Direction = "corrupt",
    persistence: Persistence = "transient",
    max_new_tokens: int = 256,
    small_denominator: float = 1e-4,
    engine: Engine = "cached",
) -> PatchResult:
    """Patch each layer alone while text is generated after each prompt, and score every step.

    `prompts` is a question, several, or a mapping from prompt_id to question; without ids they are called
    prompt-000 and so on. `small_denominator` is in logits. Raises UsageError for a layer out of range or an
    empty prompt, before anything runs.
    """
    questions = name_prompts(prompts)
    layers = layers if layers == "all" else tuple(layers)
    check_layers(layers, pair.n_layers)
    patches = layer_patches(layers, pair.n_layers, component)
    run = PatchRun(direction, persistence, max_new_tokens, small_denominator)
    for question in questions.values():
        pair.encode(question, max_new_tokens)
    scores, generations = [], []
    for prompt_id, question in questions.items():
        rows, texts = patch_prompt(pair, prompt_id, question, patches, run, engine)
        scores.append(rows)
        for condition in UNPATCHED:
            generations.append(unpatched_texts(pair, condition, {prompt_id: question}, max_new_tokens))
        generations.append(texts)
    return PatchResult(pl.concat(scores), pl.concat(generations))


def patch_prompt(
    pair: ModelPair, prompt_id: str, question: str, patches: list[Patch], run: PatchRun, engine: Engine
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One prompt under all patches: its scores and its patched texts."""
    trajectories = ENGINES[engine](pair, pair.encode(question, run.max_new_tokens), patches, run)
    rows = [row for trajectory in trajectories for row in trajectory.rows(prompt_id, run, pair.prompts)]
    texts = [
        _text_row(prompt_id, "patched", t.patch.name, t.text(pair.prompts), len(t.tokens), t.stop_reason)
        for t in trajectories
    ]
    return SCORES.frame(rows), GENERATIONS.frame(texts)


def unpatched_texts(
    pair: ModelPair, condition: Unpatched, questions: dict[str, str], max_new_tokens: int
) -> pl.DataFrame:
    """The clean or the corrupted model's own answers to questions by prompt_id, in one batch."""
    for question in questions.values():
        pair.encode(question, max_new_tokens)
    model = pair.clean if condition == "clean" else pair.corrupted
    answers = answer(model, pair.prompts, list(questions.values()), max_new_tokens, pair.stop_tokens)
    return GENERATIONS.frame(
        _text_row(prompt_id, condition, None, given.text, given.token_count, given.stop_reason)
        for prompt_id, given in zip(questions, answers, strict=True)
    )


def name_prompts(prompts: str | Iterable[str] | dict[str, str]) -> dict[str, str]:
    """Questions by prompt_id. Raises UsageError where there is none."""
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, dict):
        prompts = {f"prompt-{i:03d}": question for i, question in enumerate(prompts)}
    if not prompts:
        raise UsageError("got no prompt, expected at least one")
    return prompts


def _text_row(
    prompt_id: str, condition: str, patch: str | None, text: str, token_count: int, stop_reason: str
) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "condition": condition,
        "patch": patch,
        "text": text,
        "token_count": token_count,
        "stop_reason": stop_reason,
    }
