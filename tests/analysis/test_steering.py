"""Steering: what is added, where, and from which prompts."""

import pytest
import torch

from crosspatch.analysis.steering import Steering, _adding, mean_without, random_like, steered_answers
from crosspatch.models.blocks import find_blocks
from crosspatch.models.generation import continue_prompts
from crosspatch.models.hooks import editing, reading
from crosspatch.models.site import Site
from engines import hooks_and_forwards
from pairs import QUESTIONS, architecture_pair

TOKENS = 8


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt2"])
def case(request):
    pair = architecture_pair(request.param)
    vectors = torch.randn(3, 48, generator=torch.Generator().manual_seed(2))
    return pair, [pair.encode(question) for question in QUESTIONS], vectors


def answers(pair, encoded, vectors, steering, tokens=TOKENS, stops=None):
    return steered_answers(pair.clean, pair.prompts, encoded, vectors, steering, tokens, stops or pair.stop_tokens)


def test_strength_0_changes_no_text_and_no_bit_of_a_logit(case):
    pair, encoded, vectors = case
    plain = continue_prompts(pair.clean, pair.prompts, encoded, TOKENS, pair.stop_tokens)
    assert answers(pair, encoded, vectors, Steering(1, 0.0)) == plain
    assert answers(pair, encoded, 9 * vectors, Steering(1, 2.0)) != plain
    ids = torch.tensor([encoded[0]])
    with torch.no_grad():
        logits = pair.clean(ids, use_cache=False).logits
        with editing(pair.clean, {Site(1): _adding(0.0 * vectors[:1])}):
            assert torch.equal(pair.clean(ids, use_cache=False).logits, logits)
    assert hooks_and_forwards(pair.clean) == 0
    assert [Steering(18, 2.0).name, Steering(0, 0.5).name] == ["L18.resid_post*2", "L0.resid_post*0.5"]


def test_it_is_added_where_the_model_writes_and_nowhere_else(case):
    """A plain pass over the written text, plus the vector at the writing positions."""
    pair, encoded, vectors = case
    vector, layer, seen = vectors[:1], 1, []
    with find_blocks(pair.clean)[layer + 1].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).clone()), with_kwargs=True
    ):
        text = answers(pair, encoded[:1], vector, Steering(layer, 3.0))[0].tokens
    ids = torch.tensor([[*encoded[0], *text[:-1]]])
    with torch.no_grad(), reading(pair.clean, [Site(layer)]) as read:
        pair.clean(ids, use_cache=False)
    length = len(encoded[0])
    added = torch.cat(seen, dim=1)[:, : ids.shape[1]] - read[Site(layer)]
    torch.testing.assert_close(added[0, length - 1 :], (3.0 * vector).expand(len(text), -1), atol=1e-4, rtol=1e-4)
    assert added[0, : length - 1].abs().max() < 1e-5


def test_every_prompt_has_its_own_vector_also_when_others_have_ended(case):
    pair, encoded, vectors = case

    def together_and_alone(vectors, *options):
        alone = [answers(pair, encoded[i : i + 1], vectors[i : i + 1], *options)[0] for i in range(3)]
        return answers(pair, encoded, vectors, *options), alone

    together, alone = together_and_alone(20 * vectors, Steering(2, 1.0))
    assert together == alone
    assert answers(pair, encoded, 20 * vectors.flip(0), Steering(2, 1.0)) != together
    stop = answers(pair, encoded, vectors, Steering(1, 1.0), 24)[0].tokens[2]
    together, alone = together_and_alone(vectors, Steering(1, 1.0), 24, frozenset({stop}))
    assert len({given.token_count for given in together}) > 1
    assert together == alone


def test_the_prompt_itself_is_left_out():
    deltas = {"a": torch.ones(2, 4), "b": torch.full((1, 4), 5.0), "c": torch.zeros(0, 4)}
    assert mean_without(deltas, "a").tolist() == [5.0] * 4
    assert mean_without(deltas, "b").tolist() == [1.0] * 4
    # Each step counts alike.
    assert mean_without(deltas, "c").tolist() == pytest.approx([7 / 3] * 4)
    changed = {**deltas, "a": torch.randn(3, 4)}
    assert torch.equal(mean_without(changed, "a"), mean_without(deltas, "a"))
    assert not torch.equal(mean_without(changed, "c"), mean_without(deltas, "c"))
    assert mean_without({"a": torch.ones(2, 4), "c": torch.zeros(0, 4)}, "a") is None


def test_the_random_control_is_as_long_and_seeded():
    vector = torch.randn(48, generator=torch.Generator().manual_seed(3))
    drawn, again, other = (random_like(vector, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert float(drawn.norm()) == pytest.approx(float(vector.norm()), rel=1e-6)
    assert torch.equal(drawn, again)
    assert abs(float(torch.cosine_similarity(drawn, vector, dim=0))) < 0.5
    assert not torch.equal(drawn, other)
