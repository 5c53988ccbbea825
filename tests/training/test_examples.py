"""What is trained on: the completion and nothing of the prompt."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from crosspatch.config import Data
from crosspatch.data.splits import make_splits
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.models.chat import PromptFormat
from crosspatch.training.examples import IGNORED, Example, show_target
from pairs import make_pair

PROBLEM = make_splits(Data(train=1, validation=1, related=0), seed=0).train[0]
PROMPTS = make_pair("qwen3").prompts


def test_the_loss_is_on_the_completion_alone():
    example = Example.of(PROBLEM, PROMPTS, 1024)
    prompt = PROMPTS.encode(PROBLEM.question)
    assert example.input_ids[: len(prompt)] == prompt
    assert example.labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert example.labels[len(prompt) :] == example.input_ids[len(prompt) :]
    assert PROMPTS.tokenizer.decode(example.target) == PROBLEM.solution + "<|im_end|>"


def test_the_end_of_the_turn_is_trained_even_where_it_is_the_padding_token():
    tokenizer = copy.deepcopy(PROMPTS.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    example = Example.of(PROBLEM, PromptFormat(tokenizer), 1024)
    assert example.target[-1] == tokenizer.pad_token_id == tokenizer.eos_token_id


def test_the_shown_target_is_the_solution():
    example = Example.of(PROBLEM, PROMPTS, 1024)
    assert show_target(PROBLEM, example, PROMPTS) == PROBLEM.solution + "<|im_end|>"


def test_a_target_with_a_piece_of_the_prompt_is_refused():
    example = Example.of(PROBLEM, PROMPTS, 1024)
    leaking = replace(example, labels=example.input_ids)
    with pytest.raises(CrosspatchError, match="is not its solution"):
        show_target(PROBLEM, leaking, PROMPTS)
    headless = replace(example, labels=[*example.labels[:-1], IGNORED])
    with pytest.raises(CrosspatchError, match="is not its solution"):
        show_target(PROBLEM, headless, PROMPTS)


def test_a_problem_that_would_be_cut_or_has_no_solution_is_refused():
    with pytest.raises(UsageError, match=r"more than max_tokens = 20"):
        Example.of(PROBLEM, PROMPTS, 20)
    with pytest.raises(UsageError, match="no solution"):
        Example.of(replace(PROBLEM, solution=None), PROMPTS, 1024)
