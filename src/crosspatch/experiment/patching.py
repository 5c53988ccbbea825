"""The patch stage: activations of one model into the other, shard by shard.

A shard is some prompts under all patches, or one prompt in one direction under some of them: as many rows as run at
once. Shards follow one another by prompt, direction and patch, so all scores stand in that order.

Texts are called `patched`; where both directions are patched, those of the corrupted model with clean activations are
called `repaired`, for they come from the same places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from crosspatch.config import DOMAINS, Direction, Engine
from crosspatch.experiment.answering import judge_texts
from crosspatch.experiment.executors import carry_out
from crosspatch.experiment.sharding import Files
from crosspatch.experiment.work import Work
from crosspatch.storage.shards import Shards
from crosspatch.tables import GENERATIONS, SCORES, SCREEN, SEARCH, SWEPT_TEXTS, VOCABULARY

if TYPE_CHECKING:
    from crosspatch.models.pair import ModelPair
    from crosspatch.patching.patches import Patch
    from crosspatch.patching.sweep import Unpatched
    from crosspatch.patching.trajectory import PatchRun


def patch_prompts(work: Work) -> None:
    """Sweep all shards that are left, and grade the patched texts."""
    carry_out(PatchStage(work))


def cut_sweep(
    prompts: Sequence[str], directions: Sequence[Direction], patches: int, rows: int
) -> Iterator[dict[str, Any]]:
    """The shards of a sweep: each has at most so many rows, and at least one.

    An entry has the ids of its `prompts`, its `directions`, and the first of its `patches` and the one after the last,
    by number. All rows of the shards in their order are in the order of prompts, directions, patches.
    """
    from crosspatch.patching.batches import prompts_at_once

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
    work: Work

    def plan(self) -> dict[str, Any]:
        """All shards, the patches by name, how many rows run at once, and whether unpatched texts are written too."""
        import torch

        from crosspatch.models.placement import pick_device
        from crosspatch.patching.batches import rows_at_once

        work = self.work
        settings, models = work.experiment.patch, work.experiment.models
        directions = settings.directions
        chosen = _chosen_patches(work, directions[0], self.prompts)
        rows = settings.shard_rows
        if rows is None:
            device, dtype = torch.device(pick_device(models.device)), getattr(torch, models.dtype)
            rows = rows_at_once(work.config, dtype, device, self.longest, settings.memory_gb)
        shards = list(cut_sweep(list(self.prompts), directions, len(chosen), rows))
        work.say(f"patch: {len(self.prompts)} prompts, {len(chosen)} patches each, in {len(shards)} shards")
        return {
            "rows": rows,
            "answers": not work.directory.done("evaluate"),
            "patches": [patch.name for patch in chosen],
            "shards": shards,
        }

    def do(self, shard: int) -> Files:
        """The scores and texts of a shard."""
        from crosspatch.patching.sweep import sweep, unpatched_of

        entry = self._plan["shards"][shard]
        first, last = entry["patches"]
        prompts = {name: self.prompts[name] for name in entry["prompts"]}
        runs = [patch_run(self.work, direction) for direction in entry["directions"]]
        known: dict[str, dict[Unpatched, str]] = {name: dict(self.answers.get(name, {})) for name in prompts}
        # One shard of a prompt writes the unpatched texts, if that is to be done.
        directions = self.work.experiment.patch.directions
        unpatched = self._plan["answers"] and first == 0 and entry["directions"][0] == directions[0]
        scores: dict[str, list[pl.DataFrame]] = {name: [] for name in prompts}
        texts: dict[str, list[pl.DataFrame]] = {name: [] for name in prompts}
        for run in runs:
            results = sweep(
                self.pair,
                prompts,
                self.patches[first:last],
                run,
                self.engine,
                rows=self._plan["rows"],
                answers=known,
                unpatched=unpatched,
                say=lambda line: self.work.say(f"patch: {line}"),
            )
            for name, result in zip(prompts, results, strict=True):
                scores[name].append(result.scores)
                texts[name].append(self._named(result.generations, run))
                known[name] |= unpatched_of(result)
        return {
            SCORES.path(shard): SCORES.dumped(pl.concat(chain.from_iterable(scores.values()))),
            SWEPT_TEXTS.path(shard): SWEPT_TEXTS.dumped(pl.concat(chain.from_iterable(texts.values()))),
        }

    def gather(self) -> None:
        """All texts in one table, the texts of all tokens, and verdicts."""
        from crosspatch.patching.result import token_texts

        directory = self.work.directory
        directory.add(GENERATIONS, directory.read(SWEPT_TEXTS))
        texts = token_texts(directory.read(SCORES), self.work.prompts)
        directory.write(VOCABULARY, VOCABULARY.frame({"token_id": i, "token": text} for i, text in texts.items()))
        judge_texts(self.work)

    @cached_property
    def prompts(self) -> dict[str, list[int]]:
        """The tokens of all prompts by prompt_id; raises UsageError for one that is too long."""
        from crosspatch.models.compatibility import check_length

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
    def patches(self) -> list[Patch]:
        """The patches of the sweep."""
        from crosspatch.patching.patches import Patch

        return [Patch.parse(name) for name in self._plan["patches"]]

    @cached_property
    def pair(self) -> ModelPair:
        """The two models; raises UsageError where they lack a place of the patches."""
        from crosspatch.patching.sweep import check_places

        check_places(self.work.pair, self.patches)
        return self.work.pair

    @cached_property
    def engine(self) -> Engine:
        """The engine that can be used."""
        return possible_engine(self.work, self.patches, self.longest)

    @cached_property
    def answers(self) -> dict[str, dict[Unpatched, str]]:
        """The unpatched models' texts, as far as they were there when the sweep was planned."""
        return {} if self._plan["answers"] else _known_answers(self.work)

    def _named(self, texts: pl.DataFrame, run: PatchRun) -> pl.DataFrame:
        """Patched texts with the name of their condition."""
        from crosspatch.patching.sweep import called_repaired

        both = len(self.work.experiment.patch.directions) > 1
        return called_repaired(texts) if both and run.direction == "repair" else texts


def patch_run(work: Work, direction: Direction) -> PatchRun:
    """How the experiment's trajectories of one direction are made."""
    from crosspatch.patching.sweep import patch_runs

    settings, limit = work.experiment.patch, work.experiment.generation.max_new_tokens
    threshold, float32 = settings.small_denominator, settings.float32_unembedding
    return patch_runs(work.pair, direction, settings.persistence, limit, threshold, float32)[0]


def _chosen_patches(work: Work, direction: Direction, prompts: Mapping[str, list[int]]) -> list[Patch]:
    """The grid or the named patches; or those that a screen or a search chooses, the same for all prompts."""
    from crosspatch.analysis.selection import best_of_screen, smallest_set, target_texts
    from crosspatch.patching.patches import Patch
    from crosspatch.patching.sweep import listed_patches

    settings = work.experiment.patch
    if not settings.screen and settings.reach is None:
        return listed_patches(
            work.config,
            settings.layers,
            settings.component or "resid_post",
            heads=settings.heads,
            window=settings.window,
            schedule=settings.schedule,
            patches=settings.patches or None,
        )
    schema = SCREEN if settings.screen else SEARCH
    if (before := work.directory.read(schema)).is_empty():
        run = patch_run(work, direction)
        target: Unpatched = "clean" if direction == "corrupt" else "corrupted"
        known = {name: texts[target] for name, texts in _known_answers(work).items() if target in texts}
        texts = target_texts(work.pair, prompts, run, known)
        if settings.reach is None:
            found = best_of_screen(work.pair, texts, run, settings.component, settings.screen)
        else:
            found = smallest_set(work.pair, texts, run, settings.component, settings.reach, settings.beam)
        work.directory.write(schema, found.table)
        for note in found.notes:
            work.say(f"patch: {note}")
        return found.patches
    if settings.screen:
        return [Patch.parse(name) for name in before["patch"]]
    return [Patch.parse(before.sort("transfer")["patch"][-1])]


def possible_engine(work: Work, patches: list[Patch], positions: int) -> Engine:
    """The engine that was asked for, or the reference where the pair fails its check."""
    from crosspatch.patching.self_check import usable_engine

    settings = work.experiment.patch
    if not settings.self_check:
        return settings.engine
    return usable_engine(work.pair, patches, settings.engine, positions, lambda line: work.say(f"patch: {line}"))


def _known_answers(work: Work) -> dict[str, dict[Unpatched, str]]:
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
