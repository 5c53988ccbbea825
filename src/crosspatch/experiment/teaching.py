"""The teach stage: a broad fine-tune on right solutions, saved as an adapter with its recipe and its accuracy."""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, get_args

import polars as pl

from crosspatch.config import Finetune
from crosspatch.data.lessons import (
    ANSWER_TOKENS,
    Lesson,
    LessonKind,
    arithmetic_exercises,
    other_questions,
    read_lessons,
    taught_problems,
    write_lessons,
)
from crosspatch.data.suite import in_a_suite, same_words
from crosspatch.experiment.answering import answer_beside_clean, judge_texts
from crosspatch.experiment.children import Split, place, train_model
from crosspatch.experiment.run_context import RunContext
from crosspatch.files import checksum, write_json
from crosspatch.models.adapter import cut_to_adapter, linear_only
from crosspatch.models.loading import Checkpoint
from crosspatch.statistics.answers import accuracy
from crosspatch.tables import BEHAVIOUR, TRAINING
from crosspatch.training.examples import Example
from crosspatch.training.self_distillation import own_answers, own_questions

logger = logging.getLogger(__name__)


TAUGHT = "taught"
# The taught model before it is cut to an adapter (method cut).
_WHOLE = "taught-whole"
# New lessons for the cut adapter, which lessons that it has learnt already would improve little.
_NEW = "new"
_HELD_OUT = 32
# The peak learning rate of that training.
ADAPTER_RATE = 5e-4


def teach(context: RunContext) -> None:
    """Make the lessons, train on them, and let the model answer held-out questions before and after."""
    place(context, "clean")
    folder = context.directory.model(TAUGHT)
    if not folder.exists():
        _make_lessons(context)
    _train(context)
    shutil.rmtree(context.directory.model(_WHOLE), ignore_errors=True)
    context.directory.note_model(TAUGHT, {"name": f"{context.experiment.models.clean}, taught right solutions"})
    answer_beside_clean(context, TAUGHT)
    judge_texts(context)
    write_json(folder / "recipe.json", _recipe(context))


def _train(context: RunContext) -> None:
    """Train on the lessons; with method cut, cut the result to an adapter and train that on new lessons."""
    teach, settings, seed = context.experiment.teach, context.experiment.teaching, context.experiment.seed

    def examples(*, adapter: bool = False) -> Split:
        lessons = _shuffled([lesson for kind in sorted(get_args(LessonKind)) for lesson in _read(context, kind)], seed)
        count = min(_HELD_OUT, len(lessons) // 10 or 1)
        held_out, lessons = lessons[:count], lessons[count:]
        if adapter:
            again = [lesson for lesson in lessons if lesson.kind == "general"][: teach.adapter_finetuning // 4]
            lessons = _shuffled([*_read(context, _NEW), *again], seed)
        train, validation = (
            [Example.of_lesson(lesson, context.prompts, settings.max_tokens) for lesson in split]
            for split in (lessons, held_out)
        )
        return train, validation

    if teach.method != "cut":
        train_model(context, TAUGHT, settings, seed, examples)
        return
    whole = context.directory.model(_WHOLE)
    if not context.directory.model(TAUGHT).exists():
        train_model(context, _WHOLE, settings, seed, examples, linear_only)
    cut = partial(_cut, whole=whole, settings=settings, seed=seed)
    finetuning = settings.model_copy(update={"learning_rate": ADAPTER_RATE, "epochs": 1})
    train_model(context, TAUGHT, finetuning, seed, partial(examples, adapter=True), cut)


def _cut(model: Any, whole: Path, settings: Finetune, seed: int) -> Any:
    """The model with the adapter of rank `lora_rank` that is closest to the full change of its weights."""
    changed = Checkpoint.named(str(whole)).model(settings.weights, "cpu")
    return cut_to_adapter(model, changed, settings.lora_rank, settings.lora_alpha, seed)


def _read(context: RunContext, name: str) -> list[Lesson]:
    return read_lessons(context.directory.lessons / f"{name}.jsonl")


def _shuffled(lessons: list[Lesson], seed: int) -> list[Lesson]:
    Random(f"{seed} lessons").shuffle(lessons)
    return lessons


def _make_lessons(context: RunContext) -> None:
    """Write all lessons; the model's own answers of an interrupted run are reused."""
    experiment, seed, folder = context.experiment, context.experiment.seed, context.directory.lessons
    settings, data = experiment.teach, experiment.data
    folder.mkdir(exist_ok=True)
    new = settings.adapter_finetuning if settings.method == "cut" else 0
    problems = taught_problems(data, settings.problems + new - 2 * (new // 4), seed)
    sheets = arithmetic_exercises(data.difficulty, settings.arithmetic_exercises + new // 4, seed)
    write_lessons(folder / "problem.jsonl", problems[: settings.problems])
    write_lessons(folder / "arithmetic.jsonl", sheets[: settings.arithmetic_exercises])
    if new:
        write_lessons(
            folder / f"{_NEW}.jsonl", [*problems[settings.problems :], *sheets[settings.arithmetic_exercises :]]
        )
    own: tuple[LessonKind, ...] = ("unrelated_math", "general")
    if lacking := [kind for kind in own if not (folder / f"{kind}.jsonl").is_file()]:
        dtype = "bfloat16" if context.precision(experiment.teaching).precision == "bf16" else "float32"
        model = context.checkpoint("clean").model(dtype, experiment.models.device, seed)
        asked = {same_words(question) for question in context.questions.values()}

        def is_new(question: str) -> bool:
            return same_words(question) not in asked and not in_a_suite(question)

        for kind in lacking:
            if kind == "general":
                questions = own_questions(model, context.prompts, settings.general, seed, is_new)
            else:
                questions = other_questions(data, settings.unrelated_math, seed)
            answers = own_answers(model, context.prompts, kind, questions, ANSWER_TOKENS)
            write_lessons(folder / f"{kind}.jsonl", answers)
    counts = {path.stem: len(read_lessons(path)) for path in sorted(folder.glob("*.jsonl"))}
    logger.info("teach: " + ", ".join(f"{count} {kind} lessons" for kind, count in counts.items()))


def _recipe(context: RunContext) -> dict[str, Any]:
    """How the model was taught, and its accuracy before and after on held-out questions."""
    experiment, directory, record = context.experiment, context.directory, context.directory.record()
    settings = experiment.model_dump(mode="json")
    log = directory.read(TRAINING).filter(pl.col("run").is_in((_WHOLE, TAUGHT)))
    steps = log.group_by("run", maintain_order=True).agg(pl.col("step").max())
    return {
        "base": experiment.models.clean,
        "base_fingerprint": record["models"]["clean"].get("fingerprint"),
        "crosspatch": record["crosspatch"],
        "versions": record["versions"],
        "seed": experiment.seed,
        "data": settings["data"],
        "teach": experiment.teaching.model_dump(mode="json", exclude={"seed", "examples"})
        | settings["teach"]
        | {"answer_tokens": ANSWER_TOKENS, "adapter_rate": ADAPTER_RATE},
        "lessons": {path.stem: checksum(path.read_bytes()) for path in sorted(directory.lessons.glob("*.jsonl"))},
        "steps": dict(steps.iter_rows()),
        "accuracy": accuracy(directory.read(BEHAVIOUR), directory.asked()).to_dicts(),
    }
