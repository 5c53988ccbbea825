"""The first divergence: the published algorithm's numbers, the unpatched models in the corners, nothing invented."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

from crosspatch.analysis.first_divergence import TwoByTwo, first_divergence
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.errors import UsageError
from crosspatch.models.blocks import find_blocks
from crosspatch.models.generation import continue_prompts
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.unembedding import last_logits
from crosspatch.patching.patches import Patch
from crosspatch.patching.reference import patched_logits
from crosspatch.patching.trajectory import PatchRun
from engines import TOLERANCE, hooks_and_forwards
from pairs import QUESTIONS, architecture_pair

FAMILIES = ["qwen3", "gemma2", "gpt2", "gpt_neox", "granite"]


@cache
def own_text(family: str) -> ForcedText:
    """The clean model's text after the first question on which the pair's models part, but not at once."""
    pair = architecture_pair(family)
    for question in QUESTIONS:
        ids = pair.encode(question)
        text = continue_prompts(pair.clean, pair.prompts, [ids], 24, pair.stop_tokens)[0].tokens
        found = first_divergence(pair, "p", ForcedText(ids, text), [0])
        if found.height and found["step"][0] > 0:
            return ForcedText(ids, text)
    raise AssertionError("no text parts after its first step")


def context(given: ForcedText, step: int) -> torch.Tensor:
    return torch.tensor([[*given.prompt, *given.text[:step]]])


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_four_are_the_published_algorithms(family):
    pair, given = architecture_pair(family), own_text(family)
    found = first_divergence(pair, "p", given)
    assert found["layer"].to_list() == [0, 1, 2, 3]
    step, y_clean, y_corrupt = found.select("step", "clean_token_id", "corrupted_token_id").row(0)
    tokens = context(given, step)
    assert found["position"].unique().to_list() == [tokens.shape[1] - 1]

    def delta(logits):
        return float(logits[0, y_corrupt] - logits[0, y_clean])

    def patched(direction, layer):
        run = PatchRun(direction)
        where = Patch((Site(layer),))
        return delta(patched_logits(*pair.target_and_source(direction), tokens, where, [tokens.shape[1] - 1], run))

    for row in found.iter_rows(named=True):
        assert row["delta_clean"] == pytest.approx(delta(last_logits(pair.clean, tokens)), abs=TOLERANCE)
        assert row["delta_corrupted"] == pytest.approx(delta(last_logits(pair.corrupted, tokens)), abs=TOLERANCE)
        assert row["delta_corrupted_state"] == pytest.approx(patched("corrupt", row["layer"]), abs=TOLERANCE)
        assert row["delta_corrupted_layers"] == pytest.approx(patched("repair", row["layer"]), abs=TOLERANCE)
    # The two patches differ: neither could stand in the other's place.
    assert (found["delta_corrupted_state"] - found["delta_corrupted_layers"]).abs().max() > 100 * TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_first_step_at_which_they_want_different_tokens(family):
    pair, given = architecture_pair(family), own_text(family)
    found = first_divergence(pair, "p", given, [0])
    step = found["step"][0]
    for earlier in range(step + 1):
        wants = [int(last_logits(m, context(given, earlier)).argmax()) for m in (pair.clean, pair.corrupted)]
        # The text is the clean model's own.
        assert wants[0] == given.text[earlier]
        assert (wants[0] != wants[1]) == (earlier == step)
    assert tuple(wants) == found.select("clean_token_id", "corrupted_token_id").row(0)


def test_effects_add_up_to_what_lies_between_the_models():
    pair = architecture_pair("qwen3")
    for row in first_divergence(pair, "p", own_text("qwen3")).iter_rows(named=True):
        gap = row["delta_corrupted"] - row["delta_clean"]
        assert row["state_effect"] + row["layers_effect"] == pytest.approx(gap, abs=TOLERANCE)
        # What the state does alone is its mean effect less half of the interaction.
        alone = row["delta_corrupted_state"] - row["delta_clean"]
        assert alone == pytest.approx(row["state_effect"] - row["interaction"] / 2, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("four", "state_effect", "layers_effect", "interaction"),
    [
        # State 3, later layers 5, which merely add.
        ((-2, 6, 1, 3), 3, 5, 0),
        # Only both together: each effect is half of the gap, and all of it is interaction.
        ((-2, 6, -2, -2), 4, 4, 8),
        # Either is enough.
        ((-2, 6, 6, 6), 4, 4, -8),
    ],
)
def test_the_two_by_two_by_hand(four, state_effect, layers_effect, interaction):
    found = TwoByTwo(*map(float, four))
    assert (found.state_effect, found.layers_effect, found.interaction) == (state_effect, layers_effect, interaction)


def child_with(pair: ModelPair, *layers: int) -> ModelPair:
    """A child that differs from the clean model in some blocks alone."""
    child = copy.deepcopy(pair.clean)
    for layer in layers:
        find_blocks(child)[layer].load_state_dict(find_blocks(pair.corrupted)[layer].state_dict())
    return ModelPair(pair.clean, child, pair.prompts)


@pytest.mark.parametrize("layer", [0, 3])
def test_what_differs_below_the_cut_is_the_states_and_above_it_the_late_layers(layer):
    pair = child_with(architecture_pair("qwen3"), layer)
    for question in QUESTIONS:
        ids = pair.encode(question)
        text = continue_prompts(pair.clean, pair.prompts, [ids], 40, pair.stop_tokens)[0].tokens
        rows = first_divergence(pair, "p", ForcedText(ids, text)).to_dicts()
        if rows:
            break
    assert rows, "the models have to part somewhere"
    last = rows[3]
    # Norm and unembedding are shared: behind the last block the state is all there is.
    assert last["layers_effect"] == pytest.approx(0, abs=TOLERANCE)
    assert last["interaction"] == pytest.approx(0, abs=TOLERANCE)
    assert abs(last["state_effect"]) > 100 * TOLERANCE
    if layer == 3:
        # Below the block that differs both states are one.
        for below in rows[:3]:
            assert below["state_effect"] == pytest.approx(0, abs=TOLERANCE)
            assert below["interaction"] == pytest.approx(0, abs=TOLERANCE)


def test_identical_models_have_no_rows():
    pair, given = architecture_pair("llama"), ForcedText([5, 6, 7], [8, 9, 10])
    found = first_divergence(ModelPair(pair.clean, copy.deepcopy(pair.clean), pair.prompts), "p", given)
    assert found.is_empty()


def test_some_layers_and_many_texts_leave_nothing_behind():
    pair, given = architecture_pair("gpt2"), own_text("gpt2")
    before = hooks_and_forwards(pair.clean, pair.corrupted)
    some, all_of_them = first_divergence(pair, "p", given, [3, 1]), first_divergence(pair, "p", given)
    assert hooks_and_forwards(pair.clean, pair.corrupted) == before
    assert some["layer"].to_list() == [3, 1]
    same = all_of_them.filter(layer=3)["delta_corrupted_state"][0]
    assert some["delta_corrupted_state"][0] == pytest.approx(same, abs=TOLERANCE)


@pytest.mark.parametrize(("given", "layers"), [(ForcedText([1], []), None), (ForcedText([], [1]), None)])
def test_nothing_to_read_is_refused(given, layers):
    with pytest.raises(UsageError, match="empty prompt or text"):
        first_divergence(architecture_pair("qwen3"), "p", given, layers)


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="layer 9 is out of range"):
        first_divergence(architecture_pair("qwen3"), "p", ForcedText([1], [2]), [9])
