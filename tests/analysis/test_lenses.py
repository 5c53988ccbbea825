"""Two models along one text: their plain activations, the deltas between these, and the logit lens of a delta."""

import copy

import pytest
import torch

from crosspatch.analysis import logit_lens as module
from crosspatch.analysis.activation_delta import SharedReading, activation_rows, alignment, read_together
from crosspatch.analysis.logit_lens import lens_change, lens_rows
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.hooks import reading
from crosspatch.models.site import Site
from crosspatch.tables import ACTIVATIONS, LOGIT_LENS
from engines import hooks_and_forwards
from pairs import QUESTION, architecture_pair

SITES = [*(Site(layer) for layer in range(4)), Site(1, "head", 2), Site(2, "attn_out")]
TOKEN = 77


@pytest.fixture(scope="module", params=["qwen3", "gemma2", "gpt2"])
def case(request):
    pair = architecture_pair(request.param)
    text = pair.prompts.tokenizer("x = 3 and 5 or more of it - 7, so 11 x", add_special_tokens=False).input_ids
    given = ForcedText(pair.encode(QUESTION), text)
    found = read_together(pair.clean, pair.corrupted, given, SITES)
    assert found.disagree.any()
    return pair, given, found


def test_both_models_read_as_they_do_alone(case):
    pair, given, found = case
    ids = torch.tensor([[*given.prompt, *given.text[:-1]]])
    first = len(given.prompt) - 1
    logits = []
    for model, own in ((pair.clean, found.clean), (pair.corrupted, found.child)):
        with torch.no_grad(), reading(model, SITES) as read:
            logits.append(model(ids, use_cache=False).logits[0, first:])
        for site in SITES:
            torch.testing.assert_close(own[site], read[site][0, first:], atol=1e-5, rtol=1e-5)
            assert len(own[site]) == len(given.text)
    assert torch.equal(found.y_clean, logits[0].argmax(-1))
    assert torch.equal(found.y_corrupt, logits[1].argmax(-1))
    gaps = [each.gather(-1, found.y_corrupt[:, None]) - each.gather(-1, found.y_clean[:, None]) for each in logits]
    torch.testing.assert_close(found.gap, (gaps[1] - gaps[0])[:, 0], atol=1e-4, rtol=1e-4)
    assert torch.equal(found.gap > 0, found.disagree)
    assert hooks_and_forwards(pair.clean, pair.corrupted) == 0


def test_a_model_against_itself_has_no_delta(case):
    pair, given, found = case
    same = read_together(pair.clean, pair.clean, given, SITES)
    rows = list(activation_rows(same))
    # There is no step of disagreement, and so no row of such steps.
    assert [row["at"] for row in rows] == ["all"] * len(SITES)
    for row in rows:
        assert row["delta_norm"] == row["ratio"] == 0
        assert row["cosine"] == pytest.approx(1)
        assert row["alignment"] is None
    assert list(lens_rows(pair.clean, pair.prompts, same, 3)) == []
    apart = list(activation_rows(found))
    assert all(row["delta_norm"] > 0 and row["cosine"] < 1 for row in apart)
    ACTIVATIONS.frame({"child": "corrupted", "prompt_id": "a", **row} for row in apart)


def test_by_hand():
    clean, child = torch.tensor([[3.0, 0, 0], [0, 4, 0]]), torch.tensor([[3.0, 4, 0], [0, 4, 3]])
    site, predicted = Site(5), torch.zeros(2, dtype=torch.long)
    found = SharedReading({site: clean}, {site: child}, predicted, torch.tensor([0, 1]), torch.zeros(2))
    every, some = activation_rows(found)
    named = {"layer": 5, "component": "resid_post", "head": None, "at": "all", "steps": 2}
    means = {"delta_norm": (4 + 3) / 2, "clean_norm": (3 + 4) / 2, "ratio": (4 / 3 + 3 / 4) / 2}
    # The deltas are at a right angle to one another.
    means |= {"cosine": (3 / 5 + 4 / 5) / 2, "alignment": 0}
    assert every == named | {name: pytest.approx(mean) for name, mean in means.items()}
    assert (some["at"], some["steps"], some["alignment"]) == ("disagree", 1, None)
    assert some["cosine"] == pytest.approx(4 / 5)

    # One direction is 1, and independent ones are 0.
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


@pytest.mark.parametrize("at_once", [96, 2])
def test_a_delta_along_an_unembedding_row_raises_that_token_most(case, at_once, monkeypatch):
    pair, _, found = case
    monkeypatch.setattr(module, "UNEMBED_AT_ONCE", at_once)
    stream = found.clean[Site(2)]
    row = pair.clean.get_output_embeddings().weight[TOKEN].detach()
    planted = (5 * row / row.norm()).expand_as(stream)
    # And another direction raises another token; none raises none.
    up, down, other, none = (
        lens_change(pair.clean, stream, delta, found.y_clean, found.y_corrupt)
        for delta in (planted, -planted, planted.flip(-1), torch.zeros_like(stream))
    )
    assert up.top(3, "logit", "up")[0] == up.top(3, "probability", "up")[0] == TOKEN
    assert up.logits[TOKEN] > 0
    assert up.probabilities[TOKEN] > 0
    assert down.top(3, "logit", "down")[0] == TOKEN
    assert TOKEN not in (*other.top(1, "logit", "up"), *other.top(1, "probability", "up"))
    assert none.logits.abs().max() == none.probabilities.abs().max() == none.gap == 0
    assert hooks_and_forwards(pair.clean) == 0


def test_rows_whose_last_is_the_models_own_change(case):
    """Of a child with the clean model's final norm and unembedding: there the lens leaves nothing out."""
    pair, given, _ = case
    child = copy.deepcopy(pair.corrupted)
    ends = ("model.norm.", "transformer.ln_f.", "lm_head.")
    own = {name: weight for name, weight in pair.clean.state_dict().items() if name.startswith(ends)}
    child.load_state_dict({**child.state_dict(), **own})
    found = read_together(pair.clean, child, given, SITES)
    rows = list(lens_rows(pair.clean, pair.prompts, found, 4))
    gaps = {row["layer"]: row["lens_gap"] for row in rows}
    assert gaps[3] == pytest.approx(rows[0]["model_gap"], rel=1e-3)
    assert abs(gaps[0] - gaps[3]) > 1e-2
    frame = LOGIT_LENS.frame({"child": "corrupted", "prompt_id": "a", **row} for row in rows)
    assert frame.group_by("layer", "by", "side", maintain_order=True).len().rows() == [
        (layer, by, side, 4) for layer in range(4) for by in ("logit", "probability") for side in ("up", "down")
    ]
    assert frame["rank"].to_list() == [1, 2, 3, 4] * 16
    for by, column in (("logit", "change"), ("probability", "probability")):
        ups, downs = (frame.filter(by=by, side=side) for side in ("up", "down"))
        assert (ups[column] > 0).all()
        assert (downs[column] < 0).all()
        assert ups.filter(layer=1)[column].is_sorted(descending=True)
        assert downs.filter(layer=1)[column].is_sorted()
    assert frame["steps"].unique().to_list() == [int(found.disagree.sum())]
