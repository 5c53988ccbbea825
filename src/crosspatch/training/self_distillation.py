"""Self-distillation: training on a model's own questions and answers keeps its other answers the same.

The model completes the beginning of a user turn to a question, and then answers the question.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from crosspatch.data.lessons import Lesson, LessonKind
from crosspatch.errors import CrosspatchError
from crosspatch.models.chat import PromptFormat, stop_tokens
from crosspatch.models.generation import answer, continue_prompts

# Beginnings of questions with short answers: without them a small model asks for essays and code.
OPENINGS = (
    "What is the", "What is a", "What are", "Who was the", "Who wrote", "Which country", "Which of these",
    "Which animal", "When did", "In which year", "Where is", "How many", "How do", "Why do", "Why is", "Name a",
    "Name the", "What does", "What do you call", "Explain briefly", "Explain why", "What happens when",
    "Is it true that", "What colour", "How does", "Tell me",
)  # fmt: skip
_LONGEST_QUESTION, _AT_ONCE, _MOST_ROUNDS = 40, 32, 200
_QUESTION = re.compile(r"[A-Z][^\n]{11,200}[?.]")


def own_questions(
    model: Any, prompts: PromptFormat, count: int, seed: int, wanted: Callable[[str], bool] = lambda question: True
) -> list[str]:
    """Generate different one-line questions for which `wanted` is true.

    Raises CrosspatchError if the model generates fewer than `count`.
    """
    stops = stop_tokens((model,), prompts)
    asked: dict[str, None] = {}
    for turn in range(_MOST_ROUNDS):
        if len(asked) >= count:
            return list(asked)[:count]
        openings = [OPENINGS[(turn * _AT_ONCE + i) % len(OPENINGS)] for i in range(_AT_ONCE)]
        encoded = [prompts.user_turn(opening) for opening in openings]
        drawn = continue_prompts(model, prompts, encoded, _LONGEST_QUESTION, stops, seed=seed + turn)
        for opening, written in zip(openings, drawn, strict=True):
            question = prompts.spelled_out(opening + written.text)
            if written.stop_reason == "eos" and _QUESTION.fullmatch(question) and wanted(question):
                asked[question] = None
    raise CrosspatchError(
        f"the model wrote {len(asked)} different questions in {_MOST_ROUNDS * _AT_ONCE} tries, expected {count}; "
        "lower teach.general"
    )


def own_answers(
    model: Any, prompts: PromptFormat, kind: LessonKind, questions: list[str], max_new_tokens: int
) -> list[Lesson]:
    """Generate greedy answers as lessons, in the order of the questions; a truncated answer has no end of turn."""
    stops = stop_tokens((model,), prompts)
    lessons: list[Lesson] = []
    for start in range(0, len(questions), _AT_ONCE):
        batch = questions[start : start + _AT_ONCE]
        answers = answer(model, prompts, batch, max_new_tokens, stops)
        lessons += [
            Lesson(kind, question, prompts.spelled_out(given.text), ends=given.stop_reason == "eos")
            for question, given in zip(batch, answers, strict=True)
            if given.text.strip()
        ]
    return lessons
