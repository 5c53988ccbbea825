"""Answers: greedy whatever the model's own configuration says, and the same alone and in a batch."""

import pytest

from crosspatch.models import generation
from crosspatch.models.generation import answer
from crosspatch.models.pair import ModelPair
from crosspatch.patching.engine import run_cached
from crosspatch.patching.patches import patch_grid
from crosspatch.patching.trajectory import PatchRun, Prompt
from pairs import QUESTION, QUESTIONS, architecture_pair, child_of


def test_batched_is_looped_and_what_the_engine_generates_for_a_model_patched_into_itself(pair):
    together = answer(pair.clean, pair.prompts, QUESTIONS, 12, pair.stop_tokens)
    alone = [answer(pair.clean, pair.prompts, [question], 12, pair.stop_tokens)[0] for question in QUESTIONS]
    assert together == alone
    assert len({given.text for given in together}) == 3
    itself = ModelPair(pair.clean, pair.clean, pair.prompts)
    prompt = Prompt(itself.encode(QUESTION), patch_grid([1], pair.n_layers))
    trajectory = run_cached(itself, [prompt], PatchRun(max_new_tokens=12))[0].trajectories[0]
    given = together[QUESTIONS.index(QUESTION)]
    assert given.text == trajectory.text(pair.prompts)
    assert (given.tokens, given.stop_reason) == (trajectory.tokens, trajectory.stop_reason)


def test_the_models_own_wishes_are_not_heard_and_are_left_as_they_were(qwen3_pair):
    plain = answer(qwen3_pair.clean, qwen3_pair.prompts, [QUESTION], 16, qwen3_pair.stop_tokens)
    wishful = child_of(qwen3_pair.clean, scale=0.0)
    wishful.generation_config.update(repetition_penalty=5.0, no_repeat_ngram_size=1, do_sample=True)
    own = wishful.generation_config
    assert answer(wishful, qwen3_pair.prompts, [QUESTION], 16, qwen3_pair.stop_tokens) == plain
    assert wishful.generation_config is own
    # The control: the wishes would have changed the answer.
    assert len(set(plain[0].text)) < len(plain[0].text)


def test_an_answer_ends_at_any_stop_token_or_the_limit(qwen3_pair):
    free = answer(qwen3_pair.clean, qwen3_pair.prompts, [QUESTION], 10, qwen3_pair.stop_tokens)[0]
    assert (free.stop_reason, free.token_count) == ("limit", 10)
    tokens = free.tokens
    stop = next(token for token in tokens[2:] if token not in tokens[:2])
    cut = answer(qwen3_pair.clean, qwen3_pair.prompts, [QUESTION], 10, frozenset({stop}))[0]
    assert cut.stop_reason == "eos"
    assert cut.token_count == tokens.index(stop) + 1
    assert free.text.startswith(cut.text)
    assert cut.text == qwen3_pair.prompts.decode(tokens[: cut.token_count - 1])
    for limit in (1, 3):
        given = answer(qwen3_pair.clean, qwen3_pair.prompts, ["a", "b"], limit, qwen3_pair.stop_tokens)
        assert [g.token_count for g in given] == [limit, limit]


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt2"])
def test_answers_that_end_leave_the_batch_and_change_nothing(name, monkeypatch):
    pair = architecture_pair(name)
    free = answer(pair.clean, pair.prompts, QUESTIONS, 24, pair.stop_tokens)
    # A token that one answer has early and another late or never: they end apart.
    stops = frozenset({free[0].tokens[3], free[1].tokens[10]})
    widths = []
    generate = pair.clean.generate

    def watched(**given):
        widths.append(len(given["input_ids"]))
        return generate(**given)

    monkeypatch.setattr(pair.clean, "generate", watched)
    monkeypatch.setattr(generation, "CHUNK", 4)
    parted = answer(pair.clean, pair.prompts, QUESTIONS, 24, stops)
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) > 1
    monkeypatch.setattr(generation, "CHUNK", 24)
    widths.clear()
    assert answer(pair.clean, pair.prompts, QUESTIONS, 24, stops) == parted
    assert widths == [3]
