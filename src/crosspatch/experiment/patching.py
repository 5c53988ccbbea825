"""The patch stage: activations of one model into the other, prompt by prompt.

Texts are called `patched`; where both directions are patched, those of the corrupted model with clean activations are
called `repaired`, for they come from the same places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from crosspatch.config import DOMAINS, Direction, Engine
from crosspatch.experiment.judging import judge_texts
from crosspatch.experiment.work import Work
from crosspatch.frames import REPAIRED, SCORES, SCREEN, SEARCH

if TYPE_CHECKING:
    from crosspatch.patching.patches import Patch
    from crosspatch.patching.sweep import Unpatched
    from crosspatch.patching.trajectory import PatchRun


def patch_prompts(work: Work) -> None:
    """Sweep all prompts that have no scores yet, and grade the patched texts."""
    from crosspatch.patching.batches import prompts_at_once, rows_at_once
    from crosspatch.patching.sweep import sweep

    runs = [patch_run(work, direction) for direction in work.experiment.patch.directions]
    work.directory.scores_part(0).parent.mkdir(exist_ok=True)
    problems = work.patched_problems
    parts = {problem.id: work.directory.scores_part(i) for i, problem in enumerate(problems)}
    if all(part.is_file() for part in parts.values()):
        return _after(work)
    new_tokens = work.experiment.generation.max_new_tokens
    prompts = {problem.id: work.pair.encode(problem.question, new_tokens) for problem in problems}
    chosen = _chosen_patches(work, runs[0], prompts)
    longest = max(map(len, prompts.values())) + new_tokens
    engine = possible_engine(work, chosen, longest)
    rows = rows_at_once(work.pair, longest, work.experiment.patch.memory_gb)
    at_once = prompts_at_once(len(chosen), rows)
    answers = _known_answers(work)
    work.say(f"patch: {len(problems)} prompts, {len(chosen)} patches each, up to {at_once} prompts at once")
    for start in range(0, len(problems), at_once):
        batch = problems[start : start + at_once]
        # Prompts that ran together run together again: what is computed together decides the last digits.
        if all(parts[problem.id].is_file() for problem in batch):
            continue
        some = {problem.id: prompts[problem.id] for problem in batch}
        results = [
            sweep(
                work.pair,
                some,
                chosen,
                run,
                engine,
                rows=rows,
                answers=answers,
                say=lambda line: work.say(f"patch: {line}"),
            )
            for run in runs
        ]
        for problem, *of_problem in zip(batch, *results, strict=True):
            # The part comes last: where it is there, the texts are too.
            for run, result in zip(runs, of_problem, strict=True):
                work.directory.put_generations(_named(result.generations, run, runs))
            SCORES.write(pl.concat(result.scores for result in of_problem), parts[problem.id])
            work.say(f"patch: {problem.id} is done: {problem.question}")
    _after(work)


def _after(work: Work) -> None:
    """What follows when every prompt has its scores: the texts of their tokens are kept, and answers are graded."""
    from crosspatch.patching.result import token_texts

    if work.directory.vocabulary() is None:
        work.directory.put_vocabulary(token_texts(work.directory.scores(), work.pair.prompts))
    judge_texts(work)


def _named(texts: pl.DataFrame, run: PatchRun, runs: Sequence[PatchRun]) -> pl.DataFrame:
    """Patched texts with the name of their condition."""
    if len(runs) == 1 or run.direction == "corrupt":
        return texts
    patched = pl.col("condition") == "patched"
    return texts.with_columns(pl.when(patched).then(pl.lit(REPAIRED)).otherwise("condition").alias("condition"))


def patch_run(work: Work, direction: Direction) -> PatchRun:
    """How the experiment's trajectories of one direction are made."""
    from crosspatch.patching.trajectory import PatchRun

    settings, threshold = work.experiment.patch, work.experiment.patch.small_denominator
    return PatchRun(
        direction,
        settings.persistence,
        work.experiment.generation.max_new_tokens,
        work.pair.small_denominator if threshold is None else threshold,
        settings.float32_unembedding,
    )


def _chosen_patches(work: Work, run: PatchRun, prompts: Mapping[str, list[int]]) -> list[Patch]:
    """The grid or the named patches; or those that a screen or a search chooses, the same for all prompts."""
    from crosspatch.patching.patches import Patch
    from crosspatch.patching.selection import best_of_screen, smallest_set, target_texts
    from crosspatch.patching.sweep import choose_patches

    settings = work.experiment.patch
    if not settings.screen and settings.reach is None:
        return choose_patches(
            work.pair,
            settings.layers,
            settings.component or "resid_post",
            heads=settings.heads,
            window=settings.window,
            schedule=settings.schedule,
            patches=settings.patches or None,
        )
    schema = SCREEN if settings.screen else SEARCH
    if (before := work.directory.selection(schema)).is_empty():
        target: Unpatched = "clean" if run.direction == "corrupt" else "corrupted"
        known = {name: texts[target] for name, texts in _known_answers(work).items() if target in texts}
        texts = target_texts(work.pair, prompts, run, known)
        if settings.reach is None:
            found = best_of_screen(work.pair, texts, run, settings.component, settings.screen)
        else:
            found = smallest_set(work.pair, texts, run, settings.component, settings.reach, settings.beam)
        work.directory.put_selection(schema, found.table)
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
        for row in work.directory.generations().filter(pl.col("patch").is_null()).iter_rows(named=True):
            if row["prompt_id"] in evaluated:
                answers.setdefault(row["prompt_id"], {})[row["condition"]] = row["text"]
    return answers
