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


def localise(work: RunContext) -> None:
    """Screen and measure all prompts that have no part yet, at the current position and at all positions.

    `patch.persistence` does not count here: at a step patches are transient.
    """
    problems = localised_problems(work)
    if all(work.directory.path(LOCALISATION, i).is_file() for i in range(len(problems))):
        return
    new_tokens = work.experiment.generation.max_new_tokens
    longest = max(len(work.pair.encode(problem.question, new_tokens)) for problem in problems) + new_tokens
    if possible_engine(work, [Patch((Site(work.pair.n_layers // 2),))], longest) == "reference":
        return logger.warning(
            "localise: these models run by the reference engine alone, which has no attribution patching; sites are "
            "not localised"
        )
    for i, problem in enumerate(problems):
        if not work.directory.path(ESTIMATED, i).is_file():
            _screen(work, problem, i)
    for domain in dict.fromkeys(problem.domain for problem in problems):
        of_domain = {i: problem for i, problem in enumerate(problems) if problem.domain == domain}
        _measure(work, of_domain)


def localised_problems(work: RunContext) -> list[Problem]:
    """The problems along which places are measured: those given, or the first of each domain."""
    if work.problems["prompts"]:
        return work.problems["prompts"]
    return [problem for domain in DOMAINS for problem in work.problems[domain][: work.experiment.localise.prompts]]


def _screen(work: RunContext, problem: Problem, i: int) -> None:
    """Leave one prompt's estimates, and before them its first divergence."""
    directory = work.directory
    clean_text = _own_text(work, problem, replace(_runs(work)[0], direction="corrupt"))
    found = first_divergence(
        work.pair,
        problem.id,
        clean_text,
        float32_unembedding=work.experiment.patch.float32_unembedding,
    )
    directory.write(DIVERGENCES, found, i)
    estimated = [estimate_sites(work.pair, problem.id, _own_text(work, problem, run), run) for run in _runs(work)]
    directory.write(ESTIMATED, pl.concat(estimated), i)
    steps = found["step"].head(1).to_list()
    apart = f"first apart at step {steps[0]}" if steps else "the models agree throughout"
    logger.info(f"localise: {problem.id} is estimated, {apart}")


def _measure(work: RunContext, problems: dict[int, Problem]) -> None:
    """Measure the places that the prompts of one domain choose together, prompt by prompt."""
    directory = work.directory
    estimated = {i: ESTIMATED.read(directory.path(ESTIMATED, i)) for i in problems}
    for i, problem in problems.items():
        if directory.path(LOCALISATION, i).is_file():
            continue
        rows = [LOCALISATION.frame()]
        for number, run in enumerate(_runs(work)):
            of_run = [part.filter(direction=run.direction) for part in estimated.values()]
            patches = sites_to_measure(pl.concat(of_run), work.experiment.localise.top)
            generator = torch.Generator().manual_seed((work.experiment.seed * 1_000_003 + i) * 2 + number)
            own = estimated[i].filter(direction=run.direction)
            rows.append(measure_sites(work.pair, own, _own_text(work, problem, run), run, patches, generator))
        directory.write(LOCALISATION, pl.concat(rows), i)
        logger.info(f"localise: {problem.id} is measured, {rows[-1]['moved'].count()} places")


def _runs(work: RunContext) -> Sequence[PatchRun]:
    return [replace(run, persistence="transient") for run in runs_of(work)]


def _own_text(work: RunContext, problem: Problem, run: PatchRun) -> ForcedText:
    """The target's own text after the prompt, as it was written before or written now."""
    written = work.directory.read(GENERATIONS).filter(pl.col("patch").is_null(), prompt_id=problem.id)
    known = dict(written.select("condition", "text").iter_rows())
    return target_texts(work.pair, {problem.id: work.pair.encode(problem.question)}, run, {problem.id: known})[0]
