"""The logit lens of a delta: it is the model's own end, and a planted direction says its token."""

from __future__ import annotations

import pytest
import torch

from crosspatch.analysis import logit_lens as module
from crosspatch.analysis.activation_delta import read_together
from crosspatch.analysis.logit_lens import lens_change, lens_rows
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.site import Site
from crosspatch.tables import LOGIT_LENS
from engines import hooks_and_forwards
from pairs import QUESTION, architecture_pair

LAYERS = [Site(layer) for layer in range(4)]
TOKEN = 77


@pytest.fixture(scope="module", params=["qwen3", "gemma2", "gpt2"])
def case(request):
    pair = architecture_pair(request.param)
    text = pair.prompts.tokenizer("x = 3 and 5 or more of it - 7, so 11 x", add_special_tokens=False).input_ids
    given = ForcedText(pair.encode(QUESTION), text)
    found = read_together(pair.clean, pair.corrupted, given, LAYERS)
    assert found.disagree.any()
    return pair, given, found


@pytest.mark.parametrize("at_once", [96, 2])
def test_a_delta_along_an_unembedding_row_raises_that_token_most(case, at_once, monkeypatch):
    pair, _, found = case
    monkeypatch.setattr(module, "UNEMBED_AT_ONCE", at_once)
    stream = found.clean[Site(2)]
    row = pair.clean.get_output_embeddings().weight[TOKEN].detach()
    planted = (5 * row / row.norm()).expand_as(stream)
    change = lens_change(pair.clean, stream, planted, found.y_clean, found.y_corrupt)
    assert change.top(3, "logit", "up")[0] == change.top(3, "probability", "up")[0] == TOKEN
    assert change.logits[TOKEN] > 0
    assert change.probabilities[TOKEN] > 0
    turned = lens_change(pair.clean, stream, -planted, found.y_clean, found.y_corrupt)
    assert turned.top(3, "logit", "down")[0] == TOKEN
    # And another direction raises another token.
    other = lens_change(pair.clean, stream, planted.flip(-1), found.y_clean, found.y_corrupt)
    assert TOKEN not in (*other.top(1, "logit", "up"), *other.top(1, "probability", "up"))
    assert hooks_and_forwards(pair.clean) == 0


def test_no_delta_says_nothing(case):
    pair, given, found = case
    stream = found.clean[Site(1)]
    change = lens_change(pair.clean, stream, torch.zeros_like(stream), found.y_clean, found.y_corrupt)
    assert change.logits.abs().max() == change.probabilities.abs().max() == change.gap == 0
    same = read_together(pair.clean, pair.clean, given, LAYERS)
    assert list(lens_rows(pair.clean, pair.prompts, same, 3)) == []


def test_after_the_last_block_it_is_what_the_models_end_would_say(case):
    """Of a child whose end is the clean model's: there the lens leaves nothing out."""
    pair, given, _ = case
    child = architecture_pair.__wrapped__(name_of(pair)).corrupted
    child.load_state_dict({**child.state_dict(), **end_of(pair.clean)})
    found = read_together(pair.clean, child, given, LAYERS)
    rows = list(lens_rows(pair.clean, pair.prompts, found, 4))
    gaps = {row["layer"]: row["lens_gap"] for row in rows}
    assert gaps[3] == pytest.approx(rows[0]["model_gap"], rel=1e-3)
    assert abs(gaps[0] - gaps[3]) > 1e-2


def test_rows(case):
    pair, _, found = case
    rows = list(lens_rows(pair.clean, pair.prompts, found, 4))
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


def name_of(pair) -> str:
    return {"Qwen3ForCausalLM": "qwen3", "Gemma2ForCausalLM": "gemma2", "GPT2LMHeadModel": "gpt2"}[
        type(pair.clean).__name__
    ]


def end_of(model) -> dict[str, torch.Tensor]:
    """The final norm and the unembedding."""
    ends = ("model.norm.", "transformer.ln_f.", "lm_head.")
    return {name: weight for name, weight in model.state_dict().items() if name.startswith(ends)}
