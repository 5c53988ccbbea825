"""The localise stage: which places carry the fine-tune, and the first step at which the models part.

Every prompt is estimated before any is measured, for the same places are measured after all prompts of a domain. Each
prompt leaves a part when it is estimated and one when it is measured, so a stopped stage goes on where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import torch

from crosspatch.analysis.first_divergence import first_divergence
from crosspatch.analysis.localisation import estimate_sites, measure_sites, sites_to_measure
from crosspatch.analysis.selection import target_texts
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.config import DOMAINS
from crosspatch.data.problem import Problem
from crosspatch.experiment.patching import possible_engine, runs_of
from crosspatch.experiment.run_context import RunContext
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import DIVERGENCES, ESTIMATED, GENERATIONS, LOCALISATION

logger = logging.getLogger(__name__)


def localise(context: RunContext) -> None:
    """Screen and measure all prompts that have no part yet, at the current position and at all positions.

    `patch.persistence` does not count here: at a step patches are transient.
    """
    problems = localised_problems(context)
    if all(context.directory.path(LOCALISATION, i).is_file() for i in range(len(problems))):
        return
    new_tokens = context.experiment.generation.max_new_tokens
    longest = max(len(context.pair.encode(problem.question, new_tokens)) for problem in problems) + new_tokens
    if possible_engine(context, [Patch((Site(context.pair.n_layers // 2),))], longest) == "reference":
        return logger.warning(
            "localise: these models run by the reference engine alone, which has no attribution patching; sites are "
            "not localised"
        )
    for i, problem in enumerate(problems):
        if not context.directory.path(ESTIMATED, i).is_file():
            _screen(context, problem, i)
    for domain in dict.fromkeys(problem.domain for problem in problems):
        of_domain = {i: problem for i, problem in enumerate(problems) if problem.domain == domain}
        _measure(context, of_domain)


def localised_problems(context: RunContext) -> list[Problem]:
    """The problems along which places are measured: those given, or the first of each domain."""
    if context.problems["prompts"]:
        return context.problems["prompts"]
    return [
        problem for domain in DOMAINS for problem in context.problems[domain][: context.experiment.localise.prompts]
    ]


def _screen(context: RunContext, problem: Problem, i: int) -> None:
    """Leave one prompt's estimates, and before them its first divergence."""
    directory = context.directory
    clean_text = _own_text(context, problem, replace(_runs(context)[0], direction="corrupt"))
    found = first_divergence(
        context.pair,
        problem.id,
        clean_text,
        float32_unembedding=context.experiment.patch.float32_unembedding,
    )
    directory.write(DIVERGENCES, found, i)
    estimated = [
        estimate_sites(context.pair, problem.id, _own_text(context, problem, run), run) for run in _runs(context)
    ]
    directory.write(ESTIMATED, pl.concat(estimated), i)
    steps = found["step"].head(1).to_list()
    apart = f"first apart at step {steps[0]}" if steps else "the models agree throughout"
    logger.info(f"localise: {problem.id} is estimated, {apart}")


def _measure(context: RunContext, problems: dict[int, Problem]) -> None:
    """Measure the places that the prompts of one domain choose together, prompt by prompt."""
    directory = context.directory
    estimated = {i: ESTIMATED.read(directory.path(ESTIMATED, i)) for i in problems}
    for i, problem in problems.items():
        if directory.path(LOCALISATION, i).is_file():
            continue
        rows = [LOCALISATION.frame()]
        for number, run in enumerate(_runs(context)):
            of_run = [part.filter(direction=run.direction) for part in estimated.values()]
            patches = sites_to_measure(pl.concat(of_run), context.experiment.localise.top)
            generator = torch.Generator().manual_seed((context.experiment.seed * 1_000_003 + i) * 2 + number)
            own = estimated[i].filter(direction=run.direction)
            rows.append(measure_sites(context.pair, own, _own_text(context, problem, run), run, patches, generator))
        directory.write(LOCALISATION, pl.concat(rows), i)
        logger.info(f"localise: {problem.id} is measured, {rows[-1]['moved'].count()} places")


def _runs(context: RunContext) -> Sequence[PatchRun]:
    return [replace(run, persistence="transient") for run in runs_of(context)]


def _own_text(context: RunContext, problem: Problem, run: PatchRun) -> ForcedText:
    """The target's own text after the prompt, as it was written before or written now."""
    written = context.directory.read(GENERATIONS).filter(pl.col("patch").is_null(), prompt_id=problem.id)
    known = dict(written.select("condition", "text").iter_rows())
    return target_texts(context.pair, {problem.id: context.pair.encode(problem.question)}, run, {problem.id: known})[0]
