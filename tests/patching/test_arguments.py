"""The arguments of `patch` and `score`: what they accept, and that they do what they say."""

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from crosspatch import ModelPair, UsageError, patch, score
from crosspatch.config import Experiment
from crosspatch.models.compatibility import numbered
from engines import gap
from pairs import QUESTIONS, architecture_pair

QUESTION = "Solve for x: 2x = 18"


def test_both_directions_are_each_alone_one_after_the_other(qwen3_pair):
    questions, options = {"a": QUESTION, "b": "x - 4 = 9"}, {"layers": [1, 2], "max_new_tokens": 6}
    directions = ("corrupt", "repair")
    both, *alone = (patch(qwen3_pair, questions, direction=each, **options) for each in ("both", *directions))
    for direction, result in zip(directions, alone, strict=True):
        assert gap(both.scores.filter(direction=direction), result.scores).close
    # By prompt, then by direction; repaired texts are called `repaired`, and unpatched ones are written once.
    assert both.scores.select("prompt_id", "direction").unique(maintain_order=True).rows() == [
        (prompt, direction) for prompt in questions for direction in directions
    ]
    counts = dict(both.generations.group_by("condition").len().iter_rows())
    assert counts == {"clean": 2, "corrupted": 2, "patched": 4, "repaired": 4}
    repaired = both.generations.filter(condition="repaired")["text"]
    assert alone[1].generations.filter(pl.col("patch").is_not_null())["text"].equals(repaired)
    assert set(both.profile()["direction"]) == set(directions)
    # The text of a patch is the first direction's, or the one that is asked for.
    assert both.text("L1.resid_post") == both.generations.filter(condition="patched")["text"][0]
    assert both.text("L1.resid_post", direction="repair") == repaired[0] == alone[1].text("L1.resid_post")
    assert alone[1].text("L1.resid_post", direction="repair") == repaired[0]
    with pytest.raises(UsageError, match=r"nothing was generated under L1\.resid_post"):
        alone[1].text("L1.resid_post", direction="corrupt")


@pytest.mark.parametrize(
    ("layers", "meant"),
    [
        (-1, [3]),
        ([-1, 0], [0, 3]),
        (["1"], "got layer '1'"),
        (torch.tensor(-2), [2]),
        (torch.tensor([3, 1]), [1, 3]),
        (range(0, 4, 2), [0, 2]),
        ((np.int32(1), 1, -3), [1]),
        ("all", [0, 1, 2, 3]),
        (4, "layer 4 is out of range: the model has 4 blocks, 0 to 3"),
        ([-5], "layer -5 is out of range"),
        ([1.5], "got layer 1.5, expected a whole number"),
        ("last", 'expected "all" or numbers such as'),
    ],
)
def test_layers_are_numbers_of_any_kind(layers, meant):
    if isinstance(meant, list):
        assert sorted(numbered("layer", layers, 4)) == meant
    else:
        with pytest.raises(UsageError, match=meant):
            numbered("layer", layers, 4)


def test_layers_and_heads_are_counted_in_the_models(qwen3_pair):
    result = patch(qwen3_pair, QUESTION, layers=-1, component="head", heads=[-1, np.int8(0)], max_new_tokens=1)
    assert set(result.scores["layer"]) == {3}
    assert sorted(result.scores["head"].unique()) == [0, 3]
    settings = Experiment.model_validate({"patch": {"layers": np.array([1, 2]), "heads": np.int64(3)}}).patch
    assert (settings.layers, settings.heads) == ((1, 2), (3,))


def test_precisions_are_torchs_or_their_names():
    for dtype in (torch.bfloat16, "bfloat16", "torch.bfloat16"):
        pair = ModelPair.load("random:qwen3", "random:qwen3", dtype=dtype, layers=-1, device="cpu")
        assert pair.clean.dtype == pair.corrupted.dtype == torch.bfloat16
    for wrong in (torch.int8, "int8", "half of it", None):
        with pytest.raises(UsageError, match="expected float32, bfloat16 or float16"):
            ModelPair.load("random:qwen3", "random:qwen3", dtype=wrong)


@pytest.mark.parametrize(
    ("name", "side", "persistence"),
    [("qwen3", "left", "transient"), ("gpt2", "right", "persistent"), ("gemma3", "left", "persistent")],
)
def test_a_padded_batch_is_its_prompts_and_another_is_refused(name, side, persistence):
    pair = architecture_pair(name)
    options = {"layers": [1, 3], "persistence": persistence, "max_new_tokens": 4, "quick_check": False}
    rows = [torch.tensor(pair.encode(question)) for question in QUESTIONS]
    padded = {
        "input_ids": pad_sequence(rows, batch_first=True, padding_value=9, padding_side=side),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side),
    }
    together = patch(pair, padded, **options)
    for i, question in enumerate(QUESTIONS):
        prompt_id = f"prompt-{i:03d}"
        alone = patch(pair, {prompt_id: question}, **options)
        assert gap(together.scores.filter(prompt_id=prompt_id), alone.scores).close
        assert together.generations.filter(prompt_id=prompt_id).equals(alone.generations)
    for mask, words in (([1, 0, 1], "a gap"), ([0, 0, 0], "no token")):
        with pytest.raises(UsageError, match=words):
            patch(pair, {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.tensor([mask])})


def test_scores_have_directions(qwen3_pair):
    options = {"text": "x = 9", "patches": ["L1.resid_post", "L2.attn_out"]}
    both = score(qwen3_pair, "p", QUESTION, direction="both", **options)
    for direction in ("corrupt", "repair"):
        assert both.filter(direction=direction).equals(score(qwen3_pair, "p", QUESTION, direction=direction, **options))


@pytest.mark.parametrize(("dtype", "threshold"), [(torch.float32, 1e-4), (torch.bfloat16, 0.25), (torch.float16, 0.03)])
def test_the_threshold_of_scores_is_that_of_the_precision(dtype, threshold):
    pair = ModelPair.load("random:qwen3", "random:qwen3", dtype=dtype, device="cpu")
    assert pair.small_denominator == threshold
    exact = ModelPair.load("random:qwen3", "random:qwen3", device="cpu").corrupted
    assert ModelPair(pair.clean, exact, pair.prompts).small_denominator == threshold
    along = score(pair, "p", QUESTION, "x = 9, so x is 9, for 2 times 9 is 18 and no more", ["L1.resid_post"])
    written = patch(pair, list(QUESTIONS), layers=[1], max_new_tokens=8, quick_check=False).scores
    for found in (along, written):
        apart = found.filter(pl.col("clean_token_id") != pl.col("corrupted_token_id"))
        assert apart.height > 5
        small = (apart["delta_corrupted"] - apart["delta_clean"]).abs() < threshold
        assert ((apart["status"] == "small_denominator") == small).all()
        assert ((apart["status"] == "ok") != small).all()
        assert (apart["cts"].is_null() == small).all()
    loose = score(pair, "p", QUESTION, "x = 9", "L1.resid_post", small_denominator=1e9)
    assert not (loose["status"] == "ok").any()
    every = patch(pair, QUESTION, layers=[1], max_new_tokens=4, small_denominator=0.0, quick_check=False).scores
    assert "small_denominator" not in every["status"]


def test_a_solution_is_tokenised_with_its_question(qwen3_pair):
    raw = ModelPair.of(qwen3_pair.clean, qwen3_pair.corrupted, qwen3_pair.prompts.tokenizer, raw=True)
    prompt, tokens = raw.prompts.example(QUESTION, "Subtract 3")
    found = score(raw, "p", QUESTION, "Subtract 3", ["L1.resid_post"])
    assert found.equals(score(raw, "p", QUESTION, tokens, ["L1.resid_post"]))
    assert found["position"].to_list() == [len(prompt) - 1 + i for i in range(len(tokens))]
