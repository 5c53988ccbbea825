"""The teach stage: a broad fine-tune on right solutions, saved as an adapter with its recipe and what it reaches."""

from __future__ import annotations

import json
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
from crosspatch.experiment.children import place_clean, train_model
from crosspatch.experiment.run_context import RunContext
from crosspatch.files import checksum, written_whole
from crosspatch.models.adapter import cut_to_adapter, linear_only
from crosspatch.models.loading import Checkpoint
from crosspatch.statistics.answers import accuracy
from crosspatch.tables import BEHAVIOUR, TRAINING
from crosspatch.training.examples import Example
from crosspatch.training.self_distillation import own_answers, own_questions

logger = logging.getLogger(__name__)


TAUGHT = "taught"
# What the taught model is before it is cut (method cut).
_WHOLE = "taught-whole"
# The lessons that are kept for fine-tuning the adapter: those of the first stage are known by heart, and teach little.
_NEW = "new"
_HELD_OUT = 32
# The peak learning rate at which the low-rank adapter is fine-tuned.
ADAPTER_RATE = 5e-4


def teach(work: RunContext) -> None:
    """Make the lessons, train on them, and let the model answer held-out questions before and after."""
    place_clean(work)
    folder = work.directory.model(TAUGHT)
    if not folder.exists():
        _make_lessons(work)
    _train_taught(work)
    shutil.rmtree(work.directory.model(_WHOLE), ignore_errors=True)
    work.directory.note_model(TAUGHT, {"name": f"{work.experiment.models.clean}, taught right solutions"})
    answer_beside_clean(work, TAUGHT)
    judge_texts(work)
    with written_whole(folder / "recipe.json") as written:
        written.write_text(json.dumps(_recipe(work), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _train_taught(work: RunContext) -> None:
    """Train on the lessons that are there; reduce to a low-rank adapter, fine-tune that on new ones."""
    teach, settings, seed = work.experiment.teach, work.experiment.teaching, work.experiment.seed

    def divided() -> tuple[list[Lesson], list[Lesson]]:
        lessons = _shuffled([lesson for kind in sorted(get_args(LessonKind)) for lesson in _read(work, kind)], seed)
        held_out = min(_HELD_OUT, len(lessons) // 10 or 1)
        return lessons[held_out:], lessons[:held_out]

    def tokenised(lessons: list[Lesson]) -> list[Example]:
        return [Example.of_lesson(lesson, work.prompts, settings.max_tokens) for lesson in lessons]

    def examples() -> tuple[list[Example], list[Example]]:
        taught, held_out = divided()
        return tokenised(taught), tokenised(held_out)

    def finetuning_examples() -> tuple[list[Example], list[Example]]:
        taught, held_out = divided()
        again = [lesson for lesson in taught if lesson.kind == "general"][: teach.adapter_finetuning // 4]
        return tokenised(_shuffled([*_read(work, _NEW), *again], seed)), tokenised(held_out)

    if teach.method != "cut":
        train_model(work, TAUGHT, settings, seed, examples)
        return
    if not work.directory.model(TAUGHT).exists():
        train_model(work, _WHOLE, settings, seed, examples, linear_only)
    cut = partial(_cut, whole=work.directory.model(_WHOLE), settings=settings, seed=seed)
    finetuning = settings.model_copy(update={"learning_rate": ADAPTER_RATE, "epochs": 1})
    train_model(work, TAUGHT, finetuning, seed, finetuning_examples, cut)


def _cut(model: Any, whole: Path, settings: Finetune, seed: int) -> Any:
    """The model with the adapter that comes nearest to what it was as a whole."""
    changed = Checkpoint.named(str(whole)).model(settings.weights, "cpu")
    return cut_to_adapter(model, changed, settings.lora_rank, settings.lora_alpha, seed)


def _read(work: RunContext, name: str) -> list[Lesson]:
    return read_lessons(work.directory.lessons / f"{name}.jsonl")


def _shuffled(lessons: list[Lesson], seed: int) -> list[Lesson]:
    Random(f"{seed} lessons").shuffle(lessons)
    return lessons


def _make_lessons(work: RunContext) -> None:
    """Write all lessons; those that are there from a run that was stopped are not made again."""
    experiment, seed = work.experiment, work.experiment.seed
    settings, data = experiment.teach, experiment.data
    folder = work.directory.lessons
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
    own: dict[LessonKind, Path] = {
        "unrelated_math": folder / "unrelated_math.jsonl",
        "general": folder / "general.jsonl",
    }
    if not all(path.is_file() for path in own.values()):
        clean = Checkpoint.named(str(work.directory.model("clean")))
        dtype = "bfloat16" if work.precision(experiment.teaching).precision == "bf16" else "float32"
        model, prompts = clean.model(dtype, experiment.models.device, seed), work.prompts
        asked = {same_words(question) for question in work.questions.values()}

        def apart(question: str) -> bool:
            return same_words(question) not in asked and not in_a_suite(question)

        for kind, path in own.items():
            if path.is_file():
                continue
            if kind == "general":
                questions = own_questions(model, prompts, settings.general, seed, apart)
            else:
                questions = other_questions(data, settings.unrelated_math, seed)
            write_lessons(path, own_answers(model, prompts, kind, questions, ANSWER_TOKENS))
    counts = {path.stem: len(read_lessons(path)) for path in sorted(folder.glob("*.jsonl"))}
    logger.info("teach: " + ", ".join(f"{count} {kind} lessons" for kind, count in counts.items()))


def _recipe(work: RunContext) -> dict[str, Any]:
    """How the model was taught, and its accuracy before and after on held-out questions."""
    experiment, record = work.experiment, work.directory.record()
    settings = experiment.model_dump(mode="json")
    log = work.directory.read(TRAINING).filter(pl.col("run").is_in((_WHOLE, TAUGHT)))
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
        "lessons": {path.stem: checksum(path.read_bytes()) for path in sorted(work.directory.lessons.glob("*.jsonl"))},
        "steps": dict(steps.iter_rows()),
        "accuracy": accuracy(work.directory.read(BEHAVIOUR), work.directory.asked()).to_dicts(),
    }
