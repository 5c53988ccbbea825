"""The first divergence: its four numbers are the published algorithm's, with the unpatched models in the corners."""

from dataclasses import fields

import pytest
import torch

from crosspatch.analysis.first_divergence import TwoByTwo, first_divergence
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.errors import UsageError
from crosspatch.models.generation import continue_prompts
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.unembedding import last_logits
from crosspatch.patching.patches import Patch
from crosspatch.patching.reference import patched_logits
from crosspatch.patching.trajectory import PatchRun
from engines import TOLERANCE, hooks_and_forwards
from pairs import QUESTIONS, architecture_pair, child_in


def own_text(pair: ModelPair, least: int = 1) -> ForcedText:
    """The clean model's text after the first question on which the models diverge, at step `least` or later."""
    for question in QUESTIONS:
        ids = pair.encode(question)
        given = ForcedText(ids, continue_prompts(pair.clean, pair.prompts, [ids], 40, pair.stop_tokens)[0].tokens)
        found = first_divergence(pair, "p", given, [0])
        if found.height and found["step"][0] >= least:
            return given
    raise AssertionError("the models do not diverge")


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3", "gemma2", "gpt2", "granite", "gpt_neox"])
def test_the_four_are_the_published_algorithms(family):
    pair = architecture_pair(family)
    given = own_text(pair)
    before = hooks_and_forwards(pair.clean, pair.corrupted)
    found = first_divergence(pair, "p", given)
    assert hooks_and_forwards(pair.clean, pair.corrupted) == before
    assert found["layer"].to_list() == [0, 1, 2, 3]
    step, y_clean, y_corrupt = found.select("step", "clean_token_id", "corrupted_token_id").row(0)
    for earlier in range(step + 1):
        tokens = torch.tensor([[*given.prompt, *given.text[:earlier]]])
        predicted = [int(last_logits(model, tokens).argmax()) for model in (pair.clean, pair.corrupted)]
        # The text is the clean model's own.
        assert predicted[0] == given.text[earlier]
        assert (predicted[0] != predicted[1]) == (earlier == step)
    assert predicted == [y_clean, y_corrupt]
    last = tokens.shape[1] - 1
    assert found["position"].unique().to_list() == [last]

    def delta(logits):
        return pytest.approx(float(logits[0, y_corrupt] - logits[0, y_clean]), abs=TOLERANCE)

    def patched(direction, layer):
        models = pair.target_and_source(direction)
        return delta(patched_logits(*models, tokens, Patch((Site(layer),)), [last], PatchRun(direction)))

    for row in found.iter_rows(named=True):
        assert row["delta_clean"] == delta(last_logits(pair.clean, tokens))
        assert row["delta_corrupted"] == delta(last_logits(pair.corrupted, tokens))
        assert row["delta_corrupted_state"] == patched("corrupt", row["layer"])
        assert row["delta_corrupted_layers"] == patched("repair", row["layer"])
        four = TwoByTwo(*(row[delta.name] for delta in fields(TwoByTwo)))
        for effect in ("state_effect", "layers_effect", "interaction"):
            assert row[effect] == pytest.approx(getattr(four, effect), abs=TOLERANCE)
    # The two patches differ: neither could stand in the other's place.
    assert (found["delta_corrupted_state"] - found["delta_corrupted_layers"]).abs().max() > 100 * TOLERANCE
    some = first_divergence(pair, "p", given, [3, 1])
    assert some["layer"].to_list() == [3, 1]
    assert some["delta_corrupted_state"][0] == pytest.approx(found["delta_corrupted_state"][3], abs=TOLERANCE)


def test_the_two_by_two_by_hand():
    for four, expected in (
        # State 3, later layers 5, which merely add.
        ((-2, 6, 1, 3), (3, 5, 0)),
        # Only both together: each effect is half of the gap, and all of it is interaction.
        ((-2, 6, -2, -2), (4, 4, 8)),
        # Either is enough.
        ((-2, 6, 6, 6), (4, 4, -8)),
    ):
        found = TwoByTwo(*map(float, four))
        assert (found.state_effect, found.layers_effect, found.interaction) == expected


@pytest.mark.parametrize("layer", [0, 3])
def test_what_differs_below_the_cut_is_the_states_and_above_it_the_later_layers(layer):
    pair = child_in(architecture_pair("qwen3"), layer)
    *below, last = first_divergence(pair, "p", own_text(pair, least=0)).to_dicts()
    # Norm and unembedding are shared: after the last block only the state differs.
    assert (last["layers_effect"], last["interaction"]) == pytest.approx((0, 0), abs=TOLERANCE)
    assert abs(last["state_effect"]) > 100 * TOLERANCE
    # Below the block that differs both states are equal.
    for row in below if layer == 3 else ():
        assert (row["state_effect"], row["interaction"]) == pytest.approx((0, 0), abs=TOLERANCE)


def test_no_divergence_and_wrong_use():
    pair = architecture_pair("llama")
    assert first_divergence(child_in(pair), "p", ForcedText([5, 6, 7], [8, 9, 10])).is_empty()
    for given in (ForcedText([1], []), ForcedText([], [1])):
        with pytest.raises(UsageError, match="empty prompt or text"):
            first_divergence(pair, "p", given)
    with pytest.raises(UsageError, match="layer 9 is out of range"):
        first_divergence(pair, "p", ForcedText([1], [2]), [9])
