"""The localise stage: the sites at which the fine-tune acts, and the first step at which the models disagree.

Every prompt is estimated before any is measured, as the same sites are measured after all prompts of a domain. Each
prompt writes a part when it is estimated and one when it is measured, so an interrupted stage resumes.
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
from crosspatch.experiment.patching import runs_of
from crosspatch.experiment.run_context import RunContext, chosen_problems
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import DIVERGENCES, ESTIMATED, GENERATIONS, LOCALISATION

logger = logging.getLogger(__name__)


def localise(context: RunContext) -> None:
    """Estimate and measure all prompts without results so far, at the current position and at all positions.

    `patch.persistence` has no effect here: patches at one position are transient.
    """
    directory, problems = context.directory, localised_problems(context)
    if all(directory.path(LOCALISATION, i).is_file() for i in range(len(problems))):
        return
    new_tokens = context.experiment.generation.max_new_tokens
    longest = max(len(context.pair.encode(problem.question, new_tokens)) for problem in problems) + new_tokens
    runs = runs_of(context, [Patch((Site(context.pair.n_layers // 2),))], longest)
    if runs[0].engine == "reference":
        return logger.warning(
            "localise: attribution patching needs a cached engine, but this pair runs in the reference engine; "
            "sites are not localised"
        )
    runs = [replace(run, persistence="transient") for run in runs]
    for i, problem in enumerate(problems):
        if not directory.path(ESTIMATED, i).is_file():
            _estimate(context, problem, i, runs)
    estimated = [ESTIMATED.read(directory.path(ESTIMATED, i)) for i in range(len(problems))]
    for i, problem in enumerate(problems):
        if not directory.path(LOCALISATION, i).is_file():
            of_domain = [part for part, its in zip(estimated, problems, strict=True) if its.domain == problem.domain]
            _measure(context, problem, i, runs, estimated[i], pl.concat(of_domain))


def localised_problems(context: RunContext) -> list[Problem]:
    """The problems along which site effects are measured: those given, or the first of each domain."""
    return chosen_problems(context.problems, dict.fromkeys(DOMAINS, context.experiment.localise.prompts))


def _estimate(context: RunContext, problem: Problem, i: int, runs: Sequence[PatchRun]) -> None:
    """Write one prompt's estimates, and before them its first divergence."""
    directory, run = context.directory, replace(runs[0], direction="corrupt")
    found = first_divergence(context.pair, problem.id, _own_text(context, problem, run), run=run)
    directory.write(DIVERGENCES, found, i)
    estimated = [estimate_sites(context.pair, problem.id, _own_text(context, problem, run), run) for run in runs]
    directory.write(ESTIMATED, pl.concat(estimated), i)
    steps = found["step"].head(1).to_list()
    where = f"first divergence at step {steps[0]}" if steps else "the models agree throughout"
    logger.info(f"localise: estimated all sites for {problem.id}, {where}")


def _measure(
    context: RunContext,
    problem: Problem,
    i: int,
    runs: Sequence[PatchRun],
    estimated: pl.DataFrame,
    of_domain: pl.DataFrame,
) -> None:
    """Measure one prompt at the sites that the estimates of all prompts of its domain choose."""
    directory, settings = context.directory, context.experiment.localise
    rows = [LOCALISATION.frame()]
    for number, run in enumerate(runs):
        patches = sites_to_measure(of_domain.filter(direction=run.direction), settings.top)
        generator = torch.Generator().manual_seed((context.experiment.seed * 1_000_003 + i) * 2 + number)
        own = estimated.filter(direction=run.direction)
        rows.append(measure_sites(context.pair, own, _own_text(context, problem, run), run, patches, generator))
    directory.write(LOCALISATION, pl.concat(rows), i)
    logger.info(f"localise: measured {rows[-1]['patched'].count()} sites for {problem.id}")


def _own_text(context: RunContext, problem: Problem, run: PatchRun) -> ForcedText:
    """The target's own text after the prompt, from an earlier stage or generated now."""
    written = context.directory.read(GENERATIONS).filter(pl.col("patch").is_null(), prompt_id=problem.id)
    known = dict(written.select("condition", "text").iter_rows())
    return target_texts(context.pair, {problem.id: context.pair.encode(problem.question)}, run, {problem.id: known})[0]
