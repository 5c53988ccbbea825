"""Steering: what is added, where, and from which prompts."""

from __future__ import annotations

import pytest
import torch

from crosspatch.analysis.steering import Steering, _adding, mean_without, random_like, steered_answers
from crosspatch.models.generation import continue_prompts
from crosspatch.models.hooks import editing, reading
from crosspatch.models.site import Site
from engines import hooks_and_forwards
from pairs import QUESTIONS, architecture_pair

TOKENS = 8


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt2"])
def case(request):
    pair = architecture_pair(request.param)
    return pair, [pair.encode(question) for question in QUESTIONS]


def answers(pair, encoded, vectors, steering):
    return steered_answers(pair.clean, pair.prompts, encoded, vectors, steering, TOKENS, pair.stop_tokens)


def test_strength_nought_leaves_every_text_as_it_is(case):
    pair, encoded = case
    vectors = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    plain = continue_prompts(pair.clean, pair.prompts, encoded, TOKENS, pair.stop_tokens)
    assert answers(pair, encoded, vectors, Steering(1, 0.0)) == plain
    assert answers(pair, encoded, 9 * vectors, Steering(1, 2.0)) != plain
    assert hooks_and_forwards(pair.clean) == 0


def test_nought_changes_no_bit_of_any_logit(case):
    pair, encoded = case
    ids = torch.tensor([encoded[0]])
    with torch.no_grad():
        plain = pair.clean(ids, use_cache=False).logits
        with editing(pair.clean, {Site(1): _adding(0.0 * torch.randn(1, 48))}):
            assert torch.equal(pair.clean(ids, use_cache=False).logits, plain)
        with editing(pair.clean, {Site(1): _adding(torch.randn(1, 48))}):
            assert not torch.equal(pair.clean(ids, use_cache=False).logits[:, -1], plain[:, -1])


def test_it_is_added_where_the_model_writes_and_nowhere_else(case):
    """What a plain pass over the written text has at the layer, and the vector on top at the writing positions."""
    pair, encoded = case
    vector, layer = torch.randn(1, 48, generator=torch.Generator().manual_seed(1)), 1
    seen: list[torch.Tensor] = []
    hook = pair.clean.model if hasattr(pair.clean, "model") else pair.clean.transformer
    blocks = hook.layers if hasattr(hook, "layers") else hook.h
    handle = blocks[layer + 1].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).clone()), with_kwargs=True
    )
    try:
        text = answers(pair, encoded[:1], vector, Steering(layer, 3.0))[0].tokens
    finally:
        handle.remove()
    ids = torch.tensor([[*encoded[0], *text[:-1]]])
    with torch.no_grad(), reading(pair.clean, [Site(layer)]) as read:
        pair.clean(ids, use_cache=False)
    length = len(encoded[0])
    added = torch.cat(seen, dim=1)[:, : ids.shape[1]] - read[Site(layer)]
    torch.testing.assert_close(added[0, length - 1 :], (3.0 * vector).expand(len(text), -1), atol=1e-4, rtol=1e-4)
    assert added[0, : length - 1].abs().max() < 1e-5


def test_every_prompt_has_its_own_vector(case):
    pair, encoded = case
    vectors = 20 * torch.randn(3, 48, generator=torch.Generator().manual_seed(2))
    together = answers(pair, encoded, vectors, Steering(2, 1.0))
    alone = [answers(pair, encoded[i : i + 1], vectors[i : i + 1], Steering(2, 1.0))[0] for i in range(3)]
    assert together == alone
    assert answers(pair, encoded, vectors.flip(0), Steering(2, 1.0)) != together


def test_every_prompt_keeps_its_vector_when_others_are_at_their_end(case):
    pair, encoded = case
    vectors, steering = torch.randn(3, 48, generator=torch.Generator().manual_seed(2)), Steering(1, 1.0)

    def steered(rows, stops):
        some = [encoded[row] for row in rows]
        return steered_answers(pair.clean, pair.prompts, some, vectors[rows], steering, 24, stops)

    free = steered([0, 1, 2], pair.stop_tokens)
    stops = frozenset({free[0].tokens[2]})
    together = steered([0, 1, 2], stops)
    assert len({given.token_count for given in together}) > 1
    assert together == [steered([row], stops)[0] for row in range(3)]


def test_the_prompt_itself_is_left_out():
    deltas = {"a": torch.ones(2, 4), "b": torch.full((1, 4), 5.0), "c": torch.zeros(0, 4)}
    assert mean_without(deltas, "a").tolist() == [5.0] * 4
    assert mean_without(deltas, "b").tolist() == [1.0] * 4
    # Each step counts alike.
    assert mean_without(deltas, "c").tolist() == pytest.approx([7 / 3] * 4)
    for changed in (torch.randn(3, 4), torch.zeros(0, 4)):
        assert torch.equal(mean_without({**deltas, "a": changed}, "a"), mean_without(deltas, "a"))
        assert not torch.equal(mean_without({**deltas, "a": changed}, "c"), mean_without(deltas, "c"))
    assert mean_without({"a": torch.ones(2, 4), "c": torch.zeros(0, 4)}, "a") is None


def test_the_random_control_is_as_long_and_seeded():
    vector = torch.randn(48, generator=torch.Generator().manual_seed(3))
    drawn, again = (random_like(vector, torch.Generator().manual_seed(4)) for _ in range(2))
    assert float(drawn.norm()) == pytest.approx(float(vector.norm()), rel=1e-6)
    assert torch.equal(drawn, again)
    assert abs(float(torch.cosine_similarity(drawn, vector, dim=0))) < 0.5
    assert not torch.equal(drawn, random_like(vector, torch.Generator().manual_seed(5)))


def test_names():
    assert Steering(18, 2.0).name == "L18.resid_post*2"
    assert Steering(0, 0.5).name == "L0.resid_post*0.5"
