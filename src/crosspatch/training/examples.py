"""Converts problems and lessons to token sequences with a loss on the completion only."""

from __future__ import annotations

from dataclasses import dataclass

from crosspatch.data.lessons import Lesson
from crosspatch.data.problem import Problem
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.models.chat import PromptFormat

# The label that PyTorch's cross-entropy ignores.
IGNORED = -100


@dataclass(frozen=True)
class Example:
    """A prompt and its completion as one sequence; `labels` is IGNORED on the prompt.

    Labels are masked by position, not by token: some models also pad with their end-of-text token, which must be
    learned.
    """

    input_ids: list[int]
    labels: list[int]

    @classmethod
    def of(cls, problem: Problem, prompts: PromptFormat, max_tokens: int) -> Example:
        """Tokenise a problem and its solution; raises UsageError if they are longer than `max_tokens`."""
        if problem.solution is None:
            raise UsageError(f"the problem {problem.id} has no solution to train on")
        example = cls._of(problem.question, problem.solution, prompts)
        if len(example.input_ids) > max_tokens:
            raise UsageError(
                f"the problem {problem.id} has {len(example.input_ids)} tokens, more than max_tokens = {max_tokens}; "
                "it would be truncated, so raise that limit"
            )
        return example

    @classmethod
    def of_lesson(cls, lesson: Lesson, prompts: PromptFormat, max_tokens: int) -> Example:
        """Tokenise a lesson; longer lessons are truncated to `max_tokens` and get no end-of-turn token."""
        whole = cls._of(lesson.question, lesson.completion, prompts, ends=lesson.ends)
        return cls(whole.input_ids[:max_tokens], whole.labels[:max_tokens])

    @classmethod
    def _of(cls, question: str, completion: str, prompts: PromptFormat, *, ends: bool = True) -> Example:
        asked, answered = prompts.example(question, completion, ends=ends)
        return cls(asked + answered, [IGNORED] * len(asked) + answered)

    @property
    def target(self) -> list[int]:
        """The tokens that have a loss."""
        return [token for token in self.labels if token != IGNORED]


def show_target(problem: Problem, example: Example, prompts: PromptFormat) -> str:
    """Decode the tokens that have a loss; raises CrosspatchError unless they are exactly the solution."""
    text = str(prompts.tokenizer.decode(example.target))
    end = str(prompts.tokenizer.decode([prompts.end_of_turn]))
    solution, trained = _letters(problem.solution or ""), _letters(text.removesuffix(end))
    # A token that spans the boundary begins with the end of the prompt.
    before = trained.removesuffix(solution)
    known = trained.endswith(solution) and _letters(prompts.text(problem.question)).endswith(before)
    if not known or len(before) >= len(str(prompts.tokenizer.decode(example.target[:1]))) or not text.endswith(end):
        raise CrosspatchError(f"the training target of {problem.id} is not its solution: got {text!r}")
    return text


def _letters(text: str) -> str:
    return "".join(text.split())
