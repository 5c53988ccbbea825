"""The evaluate stage: every model answers every question; texts of all stages are graded here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date as Date
from typing import Any

from crosspatch.config import Models
from crosspatch.experiment.inspect_judge import PREFIX, inspect_judge
from crosspatch.experiment.run_context import RunContext
from crosspatch.grading.grading_worker import GradingWorker
from crosspatch.grading.judge import examine, judge
from crosspatch.grading.rating import Judge, rate
from crosspatch.models.chat import PromptFormat, stop_tokens
from crosspatch.models.generation import Answer, answer
from crosspatch.models.loading import Checkpoint
from crosspatch.models.pair import ModelPair
from crosspatch.patching.sweep import text_row
from crosspatch.tables import BEHAVIOUR, GENERATIONS, HEALTH, RATINGS

logger = logging.getLogger(__name__)

# Answers that a judge rates before they are written.
RATED_AT_ONCE = 8


def evaluate(context: RunContext) -> None:
    """Let the clean model, the corrupted one and the controls answer the held-out questions, and grade the answers."""
    children = ("corrupted", *context.experiment.controls)
    for child in children:
        answer_beside_clean(context, child)
    judge_texts(context)
    logger.info(f"evaluate: {len(context.questions)} questions to {1 + len(children)} models")


def answer_beside_clean(context: RunContext, child: str) -> None:
    """Let the clean model and a child of it answer the held-out questions that they have not answered yet."""
    if not is_answered(context, child):
        pair = context.pair_with(child)
        answer_missing(context, context.questions, "clean", pair)
        answer_missing(context, context.questions, child, pair)


def is_answered(context: RunContext, child: str) -> bool:
    """Whether the clean model and a child of it have answered all held-out questions."""
    return not any(_missing(context, context.questions, condition) for condition in ("clean", child))


def answer_missing(context: RunContext, questions: dict[str, str], condition: str, pair: ModelPair) -> None:
    """Let the clean model of a pair, or its child, answer the questions that it has not answered yet."""
    limit = context.experiment.generation.max_new_tokens
    left = _missing(context, questions, condition)
    for question in left.values():
        pair.encode(question, limit)
    model = pair.clean if condition == "clean" else pair.corrupted

    def answers(names: list[str]) -> list[Answer]:
        return answer(model, pair.prompts, [left[name] for name in names], limit, pair.stop_tokens)

    write_answers(context, list(left), answers, condition)


def write_answers(
    context: RunContext,
    names: list[str],
    answers: Callable[[list[str]], list[Answer]],
    condition: str,
    patch: dict[str, Any] | None = None,
) -> None:
    """Let a model answer prompts, and write each batch; `patch` has the columns of the texts' patch."""
    size = context.experiment.generation.batch_size
    for start in range(0, len(names), size):
        batch = names[start : start + size]
        rows = (
            text_row(name, condition, patch, given.text, given.token_count, given.stop_reason)
            for name, given in zip(batch, answers(batch), strict=True)
        )
        context.directory.add(GENERATIONS, GENERATIONS.frame(rows))


def _missing(context: RunContext, questions: dict[str, str], condition: str) -> dict[str, str]:
    """The questions, by prompt_id, that a model has not answered yet."""
    there = set(context.directory.read(GENERATIONS).filter(condition=condition)["prompt_id"])
    return {name: question for name, question in questions.items() if name not in there}


def judge_texts(context: RunContext) -> None:
    """Check the health of all new texts, and grade the texts whose problem has an answer."""
    directory = context.directory
    directory.add(HEALTH, HEALTH.frame(map(examine, directory.lacking(HEALTH).iter_rows(named=True))))
    asked = directory.asked()
    with GradingWorker() as worker:
        rows = [
            judge(asked[text["prompt_id"]], text, worker.grade)
            for text in directory.lacking(BEHAVIOUR).iter_rows(named=True)
            if text["prompt_id"] in asked and asked[text["prompt_id"]].answer
        ]
    directory.add(BEHAVIOUR, BEHAVIOUR.frame(rows))
    rate_answers(context)


def rate_answers(context: RunContext) -> None:
    """Let the judge rate new answers to free questions, batch by batch; each batch is written."""
    name = context.experiment.judge.model
    free = {problem.id: problem for problem in context.problems["alignment"]}
    texts = [text for text in context.directory.lacking(RATINGS).iter_rows(named=True) if text["prompt_id"] in free]
    if name is None or not texts:
        return
    judge = load_judge(name, context.experiment.models, context.date)
    for start in range(0, len(texts), RATED_AT_ONCE):
        rows = rate(free, texts[start : start + RATED_AT_ONCE], judge, name)
        context.directory.add(RATINGS, RATINGS.frame(rows))
    logger.info(f"{len(texts)} answers to free questions were rated by {name}")


def load_judge(name: str, models: Models, date: Date | None = None) -> Judge:
    """The judge of free answers: a checkpoint, or a model that Inspect AI reaches.

    Chat templates that print a date print `date`, or today's date if it is None.
    """
    if name.startswith(PREFIX):
        return inspect_judge(name)
    checkpoint = Checkpoint.named(name)
    model = checkpoint.model(models.dtype, models.device)
    prompts = PromptFormat(checkpoint.tokenizer(), date=date or Date.today())
    stops = stop_tokens((model,), prompts)

    def judge(asked: list[str]) -> list[str]:
        # The texts of models may hold special tokens. A number needs few tokens; some models write a word before it.
        spelled = [prompts.spelled_out(text) for text in asked]
        return [reply.text for reply in answer(model, prompts, spelled, 8, stops)]

    return judge
