"""Two models along one text: the activations that they have alone, and numbers that are known beforehand."""

from __future__ import annotations

import pytest
import torch

from crosspatch.analysis.activation_delta import SharedReading, activation_rows, alignment, read_together
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.hooks import reading
from crosspatch.models.site import Site
from crosspatch.tables import ACTIVATIONS
from engines import hooks_and_forwards
from pairs import QUESTION, architecture_pair

SITES = [Site(0), Site(3), Site(1, "head", 2), Site(2, "attn_out")]


@pytest.fixture(scope="module", params=["qwen3", "gemma3", "gpt2"])
def case(request):
    pair = architecture_pair(request.param)
    return pair, ForcedText(
        pair.encode(QUESTION), pair.prompts.tokenizer("x = 3 and more", add_special_tokens=False).input_ids
    )


def shared(clean, child, disagree=None) -> SharedReading:
    """A reading of one place with the activations at hand."""
    steps = len(clean)
    wants = torch.zeros(steps, dtype=torch.long)
    other = wants if disagree is None else torch.tensor(disagree).long()
    return SharedReading({Site(5): clean}, {Site(5): child}, wants, other, torch.zeros(steps))


def test_both_models_read_as_they_do_alone(case):
    pair, given = case
    found = read_together(pair.clean, pair.corrupted, given, SITES)
    ids = torch.tensor([[*given.prompt, *given.text[:-1]]])
    first = len(given.prompt) - 1
    wants = []
    for model, own in ((pair.clean, found.clean), (pair.corrupted, found.child)):
        with torch.no_grad(), reading(model, SITES) as read:
            logits = model(ids, use_cache=False).logits[0, first:]
        for site in SITES:
            torch.testing.assert_close(own[site], read[site][0, first:], atol=1e-5, rtol=1e-5)
            assert len(own[site]) == len(given.text)
        wants.append(logits)
    assert torch.equal(found.y_clean, wants[0].argmax(-1))
    assert torch.equal(found.y_corrupt, wants[1].argmax(-1))
    gaps = [w.gather(-1, found.y_corrupt[:, None]) - w.gather(-1, found.y_clean[:, None]) for w in wants]
    torch.testing.assert_close(found.gap, (gaps[1] - gaps[0])[:, 0], atol=1e-4, rtol=1e-4)
    assert torch.equal(found.gap > 0, found.disagree)
    assert hooks_and_forwards(pair.clean) == hooks_and_forwards(pair.corrupted) == 0


def test_a_model_against_itself_is_nowhere_apart(case):
    pair, given = case
    rows = list(activation_rows(read_together(pair.clean, pair.clean, given, SITES)))
    # There is no step of disagreement, and so no row of such steps.
    assert [row["at"] for row in rows] == ["all"] * len(SITES)
    for row in rows:
        assert row["delta_norm"] == row["ratio"] == 0
        assert row["cosine"] == pytest.approx(1)
        assert row["alignment"] is None
    moved = list(activation_rows(read_together(pair.clean, pair.corrupted, given, SITES)))
    assert all(row["delta_norm"] > 0 and row["cosine"] < 1 for row in moved)
    ACTIVATIONS.frame({"child": "corrupted", "prompt_id": "a", **row} for row in moved)


def test_known_numbers():
    clean = torch.tensor([[3.0, 0, 0], [0, 4, 0]])
    child = torch.tensor([[3.0, 4, 0], [0, 4, 3]])
    every, some = activation_rows(shared(clean, child, disagree=[0, 1]))
    assert (every["layer"], every["component"], every["head"], every["at"], every["steps"]) == (
        5,
        "resid_post",
        None,
        "all",
        2,
    )
    assert every["delta_norm"] == pytest.approx((4 + 3) / 2)
    assert every["clean_norm"] == pytest.approx((3 + 4) / 2)
    assert every["ratio"] == pytest.approx((4 / 3 + 3 / 4) / 2)
    assert every["cosine"] == pytest.approx((3 / 5 + 4 / 5) / 2)
    # At a right angle to one another.
    assert every["alignment"] == pytest.approx(0)
    assert (some["at"], some["steps"]) == ("disagree", 1)
    assert some["cosine"] == pytest.approx(4 / 5)
    assert some["alignment"] is None


def test_one_direction_is_one_and_independent_ones_are_none():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(64, generator=generator)
    same = alignment(torch.outer(torch.tensor([1.0, 2, 0.5]), direction))
    assert same.tolist() == pytest.approx([1, 1, 1])
    # With the delta itself in the mean this would be 0.5 for four of them.
    independent = torch.stack([alignment(torch.randn(4, 64, generator=generator)).mean() for _ in range(200)])
    assert float(independent.mean()) == pytest.approx(0, abs=0.02)
    opposite = alignment(torch.stack([direction, -direction]))
    assert opposite.tolist() == pytest.approx([-1, -1])
    assert len(alignment(torch.zeros(3, 64))) == len(alignment(direction[None])) == 0
