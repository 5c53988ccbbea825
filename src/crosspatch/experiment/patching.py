"""The patch stage: activations of one model into the other, shard by shard.

A shard is some prompts under all patches, or one prompt in one direction under some of them: as many rows as run at
once. Shards follow one another by prompt, direction and patch, so all scores stand in that order.

Texts are called `patched`; where both directions are patched, those of the corrupted model with clean activations are
called `repaired`, for they come from the same places.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import polars as pl
import torch

from crosspatch.analysis.selection import select_patches
from crosspatch.config import DOMAINS, Direction, Engine
from crosspatch.experiment.answering import judge_texts
from crosspatch.experiment.executors import carry_out
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import Files
from crosspatch.models.compatibility import check_length
from crosspatch.models.placement import pick_device
from crosspatch.patching.batches import prompts_at_once, rows_at_once
from crosspatch.patching.patches import Patch
from crosspatch.patching.quick_check import usable_engine
from crosspatch.patching.result import token_texts
from crosspatch.patching.sweep import Answers, Sweep, Unpatched, check_patches, listed_patches, patch_runs
from crosspatch.patching.trajectory import PatchRun
from crosspatch.storage.shards import Shards
from crosspatch.tables import ATTRIBUTION, GENERATIONS, SCORES, SEARCH, SWEPT_TEXTS, VOCABULARY

logger = logging.getLogger(__name__)


def patch_prompts(work: RunContext) -> None:
    """Sweep all shards that are left, and grade the patched texts."""
    carry_out(PatchStage(work))


def cut_sweep(
    prompts: Sequence[str], directions: Sequence[Direction], patches: int, rows: int
) -> Iterator[dict[str, Any]]:
    """The shards of a sweep: each has at most so many rows, and at least one.

    An entry has the ids of its `prompts`, its `directions`, and the first of its `patches` and the one after the last,
    by number. All rows of the shards in their order are in the order of prompts, directions, patches.
    """
    if patches <= rows:
        at_once = prompts_at_once(patches, rows)
        for start in range(0, len(prompts), at_once):
            yield {
                "prompts": list(prompts[start : start + at_once]),
                "directions": list(directions),
                "patches": [0, patches],
            }
        return
    for prompt in prompts:
        for direction in directions:
            for first in range(0, patches, rows):
                yield {
                    "prompts": [prompt],
                    "directions": [direction],
                    "patches": [first, min(first + rows, patches)],
                }


@dataclass
class PatchStage:
    """The sweep of an experiment."""

    name: ClassVar[str] = "patch"
    work: RunContext

    def plan(self) -> dict[str, Any]:
        """All shards, the patches by name, how many rows run at once, and whether unpatched texts are written too."""
        work = self.work
        settings, models = work.experiment.patch, work.experiment.models
        directions = settings.directions
        chosen = _chosen_patches(work, self.prompts)
        rows = settings.shard_rows
        if rows is None:
            device, dtype = torch.device(pick_device(models.device)), getattr(torch, models.dtype)
            rows = rows_at_once(work.config, dtype, device, self.longest, settings.memory_gb)
        shards = list(cut_sweep(list(self.prompts), directions, len(chosen), rows))
        logger.info(f"patch: {len(self.prompts)} prompts, {len(chosen)} patches each, in {len(shards)} shards")
        return {
            "rows": rows,
            "answers": not work.directory.done("evaluate"),
            "patches": [patch.name for patch in chosen],
            "shards": shards,
        }

    def do(self, shard: int) -> Files:
        """The scores and texts of a shard."""
        entry = self._plan["shards"][shard]
        first, last = entry["patches"]
        prompts = {name: self.prompts[name] for name in entry["prompts"]}
        runs = [run for run in self.sweep.runs if run.direction in entry["directions"]]
        # One shard of a prompt writes the unpatched texts, if that is to be done.
        unpatched = self._plan["answers"] and first == 0 and runs[0] == self.sweep.runs[0]
        part = replace(self.sweep, patches=self.sweep.patches[first:last], runs=runs)
        scores, texts = part.over(prompts, self.answers, unpatched=unpatched)
        return {
            SCORES.path(shard): SCORES.dumped(scores),
            SWEPT_TEXTS.path(shard): SWEPT_TEXTS.dumped(texts),
        }

    def gather(self) -> None:
        """All texts in one table, the texts of all tokens, and verdicts."""
        directory = self.work.directory
        directory.add(GENERATIONS, directory.read(SWEPT_TEXTS))
        texts = token_texts(directory.read(SCORES), self.work.prompts)
        directory.write(VOCABULARY, VOCABULARY.frame({"token_id": i, "token": text} for i, text in texts.items()))
        judge_texts(self.work)

    @cached_property
    def prompts(self) -> dict[str, list[int]]:
        """The tokens of all prompts by prompt_id; raises UsageError for one that is too long."""
        new_tokens, work = self.work.experiment.generation.max_new_tokens, self.work
        encoded = {problem.id: work.prompts.encode(problem.question) for problem in work.patched_problems}
        for ids in encoded.values():
            check_length(work.config, len(ids), new_tokens)
        return encoded

    @property
    def longest(self) -> int:
        """Positions that a text may grow to."""
        return max(map(len, self.prompts.values())) + self.work.experiment.generation.max_new_tokens

    @cached_property
    def _plan(self) -> dict[str, Any]:
        return Shards(self.work.directory.root, self.name).plan()

    @cached_property
    def sweep(self) -> Sweep:
        """All patches in all directions; raises UsageError where the models lack a place of the patches."""
        patches = [Patch.parse(name) for name in self._plan["patches"]]
        check_patches(self.work.pair, patches)
        engine = possible_engine(self.work, patches, self.longest)
        return Sweep(self.work.pair, patches, runs_of(self.work), engine, self._plan["rows"])

    @cached_property
    def answers(self) -> Answers:
        """The unpatched models' texts, as far as they were there when the sweep was planned."""
        return {} if self._plan["answers"] else _known_answers(self.work)


def runs_of(work: RunContext) -> list[PatchRun]:
    """How the experiment's trajectories are made, a run for each direction."""
    settings, limit = work.experiment.patch, work.experiment.generation.max_new_tokens
    threshold, float32 = settings.small_denominator, settings.float32_unembedding
    return patch_runs(work.pair, settings.direction, settings.persistence, limit, threshold, float32)


def _chosen_patches(work: RunContext, prompts: Mapping[str, list[int]]) -> list[Patch]:
    """The grid or the named patches; or those that attribution or a search chooses, the same for all prompts."""
    settings = work.experiment.patch
    if not settings.attribution and settings.target_fraction is None:
        return listed_patches(
            work.config,
            settings.layers,
            settings.component or "resid_post",
            heads=settings.heads,
            window=settings.window,
            schedule=settings.schedule,
            patches=settings.patches or None,
        )
    schema = ATTRIBUTION if settings.attribution else SEARCH
    if (before := work.directory.read(schema)).is_empty():
        found = select_patches(
            work.pair,
            prompts,
            runs_of(work)[0],
            _known_answers(work),
            settings.component,
            attribution=settings.attribution,
            target_fraction=settings.target_fraction,
            beam=settings.beam,
        )
        work.directory.write(schema, found.table)
        for note in found.notes:
            logger.info(f"patch: {note}")
        return found.patches
    if settings.attribution:
        return [Patch.parse(name) for name in before["patch"]]
    return [Patch.parse(before.sort("recovered_fraction")["patch"][-1])]


def possible_engine(work: RunContext, patches: list[Patch], positions: int) -> Engine:
    """The engine that was asked for, or the reference where the pair fails its check."""
    settings = work.experiment.patch
    return usable_engine(work.pair, patches, settings.engine, positions) if settings.quick_check else settings.engine


def _known_answers(work: RunContext) -> Answers:
    """The unpatched models' texts, by prompt and condition, if that stage is done.

    Texts that the patching itself left when it was stopped are written again with it: it goes on as it began.
    """
    answers: dict[str, dict[Unpatched, str]] = {}
    if work.directory.done("evaluate"):
        evaluated = {problem.id for domain in DOMAINS for problem in work.problems[domain]}
        for row in work.directory.read(GENERATIONS).filter(pl.col("patch").is_null()).iter_rows(named=True):
            if row["prompt_id"] in evaluated:
                answers.setdefault(row["prompt_id"], {})[row["condition"]] = row["text"]
    return answers
