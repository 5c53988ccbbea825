"""The patch stage: activations of one model into the other, shard by shard.

A shard is some prompts under all patches, or one prompt in one direction under some patches: as many rows as run at
once. Shards are in the order of prompts, directions and patches, and so are all scores.

Texts are called `patched`; where both directions are patched, those of the corrupted model with clean activations are
called `repaired`, as they have the same patches.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import polars as pl
import torch

from crosspatch.analysis.selection import select_patches
from crosspatch.config import DOMAINS, Direction
from crosspatch.config import Patch as PatchSettings
from crosspatch.experiment.answering import judge_texts
from crosspatch.experiment.run_context import RunContext
from crosspatch.experiment.sharding import Files, ShardedStage
from crosspatch.models.compatibility import check_length
from crosspatch.models.placement import pick_device
from crosspatch.models.site import Site
from crosspatch.patching.batches import prompts_at_once, rows_at_once
from crosspatch.patching.patches import Patch
from crosspatch.patching.quick_check import usable_engine
from crosspatch.patching.result import token_texts
from crosspatch.patching.sweep import Answers, Sweep, Unpatched, check_patches, choose_patches, patch_runs
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import ATTRIBUTION, GENERATIONS, SCORES, SEARCH, SWEPT_TEXTS, VOCABULARY

logger = logging.getLogger(__name__)


def cut_sweep(
    prompts: Sequence[str], directions: Sequence[Direction], patches: int, rows: int
) -> Iterator[dict[str, Any]]:
    """The shards of a sweep: each has at most `rows` rows, and at least one.

    An entry has the ids of its `prompts`, its `directions`, and the numbers of the first of its `patches` and of the
    one after the last. Rows of consecutive shards are ordered by prompt, direction and patch. If several shards are
    needed, the first has a single prompt, so that there is soon something to see.
    """

    def entry(some: Sequence[str], directions: Sequence[Direction], first: int, last: int) -> dict[str, Any]:
        return {"prompts": list(some), "directions": list(directions), "patches": [first, last]}

    if prompts and patches <= rows:
        if prompts_at_once(len(prompts), patches, rows) < len(prompts):
            yield entry(prompts[:1], directions, 0, patches)
            prompts = prompts[1:]
        at_once = prompts_at_once(len(prompts), patches, rows)
        for start in range(0, len(prompts), at_once):
            yield entry(prompts[start : start + at_once], directions, 0, patches)
        return
    for prompt in prompts:
        for direction in directions:
            for first in range(0, patches, rows):
                yield entry([prompt], [direction], first, min(first + rows, patches))


class PatchStage(ShardedStage):
    """The sweep of an experiment."""

    name = "patch"

    def plan(self) -> dict[str, Any]:
        """All shards, the patches by name, the number of rows at once, and whether unpatched texts are written too."""
        context = self.context
        settings, models = context.experiment.patch, context.experiment.models
        chosen = _chosen_patches(context, self.prompts, self.longest)
        rows = settings.shard_rows
        if rows is None:
            device, dtype = torch.device(pick_device(models.device)), getattr(torch, models.dtype)
            rows = rows_at_once(context.config, dtype, device, self.longest, settings.memory_gb)
        shards = list(cut_sweep(list(self.prompts), settings.directions, len(chosen), rows))
        logger.info(f"patch: {len(self.prompts)} prompts, {len(chosen)} patches each, in {len(shards)} shards")
        return {
            "rows": rows,
            "answers": not context.directory.done("evaluate"),
            "patches": [patch.name for patch in chosen],
            "shards": shards,
        }

    def do(self, shard: int) -> Files:
        """The scores and texts of a shard."""
        entry = self._plan["shards"][shard]
        first, last = entry["patches"]
        prompts = {name: self.prompts[name] for name in entry["prompts"]}
        runs = [run for run in self.sweep.runs if run.direction in entry["directions"]]
        # One shard of a prompt writes the unpatched texts, if they are to be written.
        unpatched = self._plan["answers"] and first == 0 and runs[0] == self.sweep.runs[0]
        part = replace(self.sweep, patches=self.sweep.patches[first:last], runs=runs)
        scores, texts = part.over(prompts, self.answers, unpatched=unpatched)
        return {SCORES.path(shard): SCORES.dumped(scores), SWEPT_TEXTS.path(shard): SWEPT_TEXTS.dumped(texts)}

    def collect(self) -> None:
        """All texts in one table, the texts of all tokens, and verdicts."""
        directory = self.context.directory
        directory.add(GENERATIONS, directory.read(SWEPT_TEXTS))
        texts = token_texts(directory.read(SCORES), self.context.prompts)
        directory.write(VOCABULARY, VOCABULARY.frame({"token_id": i, "token": text} for i, text in texts.items()))
        judge_texts(self.context)

    @cached_property
    def prompts(self) -> dict[str, list[int]]:
        """The tokens of all prompts by prompt_id; raises UsageError for one that is too long."""
        new_tokens, context = self.context.experiment.generation.max_new_tokens, self.context
        encoded = {problem.id: context.prompts.encode(problem.question) for problem in context.patched_problems}
        for ids in encoded.values():
            check_length(context.config, len(ids), new_tokens)
        return encoded

    @property
    def longest(self) -> int:
        """The largest number of positions that a text can have."""
        return max(map(len, self.prompts.values())) + self.context.experiment.generation.max_new_tokens

    @cached_property
    def _plan(self) -> dict[str, Any]:
        return self.shards.plan()

    @cached_property
    def sweep(self) -> Sweep:
        """All patches in all directions; raises UsageError where the models lack a site of the patches."""
        patches = [Patch.parse(name) for name in self._plan["patches"]]
        check_patches(self.context.pair, patches)
        return Sweep(self.context.pair, patches, runs_of(self.context, patches, self.longest), self._plan["rows"])

    @cached_property
    def answers(self) -> Answers:
        """The unpatched models' texts that existed when the sweep was planned."""
        return {} if self._plan["answers"] else _known_answers(self.context)


def runs_of(context: RunContext, patches: Sequence[Patch], positions: int) -> list[PatchRun]:
    """The settings of the experiment's trajectories under some patches, a run for each direction.

    The engine is that of the settings, or another one where the pair fails the quick check. A check is not repeated by
    later stages: with a large model it takes longer than some of them.
    """
    names = tuple(patch.name for patch in patches)
    engine, longest = context.checked.get(names, (context.experiment.patch.engine, 0))
    if context.experiment.patch.quick_check and longest < positions:
        engine = usable_engine(context.pair, patches, engine, positions)
        context.checked[names] = engine, positions
    settings, limit = context.experiment.patch, context.experiment.generation.max_new_tokens
    threshold, float32 = settings.small_denominator, settings.float32_unembedding
    runs = patch_runs(context.pair, settings.direction, settings.persistence, limit, threshold, float32)
    return [replace(run, engine=engine) for run in runs]


def listed(settings: PatchSettings, config: Any) -> list[Patch]:
    """The grid of patches on a model of this (text) configuration, or the named patches."""
    return choose_patches(
        config,
        settings.layers,
        settings.component or "resid_post",
        heads=settings.heads,
        window=settings.window,
        schedule=settings.schedule,
        patches=settings.patches or None,
    )


def _chosen_patches(context: RunContext, prompts: Mapping[str, list[int]], longest: int) -> list[Patch]:
    """The patches that the settings list, or that attribution or a search chooses; the same for all prompts."""
    settings = context.experiment.patch
    if not settings.attribution and settings.target_fraction is None:
        return listed(settings, context.config)
    schema = ATTRIBUTION if settings.attribution else SEARCH
    if (before := context.directory.read(schema)).is_empty():
        found = select_patches(
            context.pair,
            prompts,
            runs_of(context, [Patch((Site(context.pair.n_layers // 2),))], longest)[0],
            _known_answers(context),
            settings.component,
            attribution=settings.attribution,
            target_fraction=settings.target_fraction,
            beam=settings.beam,
        )
        context.directory.write(schema, found.table)
        for note in found.notes:
            logger.info(f"patch: {note}")
        return found.patches
    if settings.attribution:
        return [Patch.parse(name) for name in before["patch"]]
    return [Patch.parse(before.sort("recovered_fraction")["patch"][-1])]


def _known_answers(context: RunContext) -> Answers:
    """The unpatched models' texts, by prompt and condition, if the stage evaluate is done.

    Texts that an interrupted sweep wrote itself do not count: it writes them again when it resumes.
    """
    answers: dict[str, dict[Unpatched, str]] = {}
    if context.directory.done("evaluate"):
        evaluated = {problem.id for domain in DOMAINS for problem in context.problems[domain]}
        for row in context.directory.read(GENERATIONS).filter(pl.col("patch").is_null()).iter_rows(named=True):
            if row["prompt_id"] in evaluated:
                answers.setdefault(row["prompt_id"], {})[row["condition"]] = row["text"]
    return answers
