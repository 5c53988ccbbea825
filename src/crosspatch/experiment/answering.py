"""The evaluate stage: every model answers every question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from crosspatch.experiment.judging import judge_texts
from crosspatch.experiment.work import Work
from crosspatch.tables import GENERATIONS

if TYPE_CHECKING:
    from crosspatch.models.pair import ModelPair
    from crosspatch.patching.sweep import Unpatched


def evaluate(work: Work) -> None:
    """Let the clean model, the corrupted one and the controls answer the held-out questions, and grade that."""
    from crosspatch.patching.sweep import UNPATCHED

    asked = work.questions
    for condition in UNPATCHED:
        answer_missing(work, asked, condition, work.pair, condition)
    for control in work.experiment.controls:
        if missing(work, asked, control):
            answer_missing(work, asked, control, work.pair_with(control), "corrupted")
    judge_texts(work)
    work.say(f"evaluate: {len(asked)} questions to {len(UNPATCHED) + len(work.experiment.controls)} models")


def missing(work: Work, questions: dict[str, str], condition: str) -> dict[str, str]:
    """The questions that a model has not answered yet."""
    there = set(work.directory.read(GENERATIONS).filter(condition=condition)["prompt_id"])
    return {name: question for name, question in questions.items() if name not in there}


def answer_missing(work: Work, questions: dict[str, str], condition: str, pair: ModelPair, model: Unpatched) -> None:
    """Let one model of a pair answer what it has not answered yet, batch by batch; what is answered is kept."""
    from crosspatch.patching.sweep import unpatched_texts

    settings = work.experiment.generation
    left = list(missing(work, questions, condition).items())
    for start in range(0, len(left), settings.batch_size):
        texts = unpatched_texts(pair, model, dict(left[start : start + settings.batch_size]), settings.max_new_tokens)
        work.directory.add(GENERATIONS, texts.with_columns(condition=pl.lit(condition)))
