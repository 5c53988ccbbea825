"""The arguments of `patch` and `score`: what they accept, and that they do what they say."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from crosspatch import ModelPair, UsageError, patch, score
from crosspatch.config import Experiment
from crosspatch.models.compatibility import numbered

QUESTION = "Solve for x: 2x = 18"


def test_both_directions_are_each_alone_one_after_the_other(qwen3_pair):
    questions, options = {"a": QUESTION, "b": "x - 4 = 9"}, {"layers": [1, 2], "max_new_tokens": 4}
    both = patch(qwen3_pair, questions, direction="both", **options)
    alone = {
        direction: patch(qwen3_pair, questions, direction=direction, **options) for direction in ("corrupt", "repair")
    }
    for direction, result in alone.items():
        ours = both.scores.filter(direction=direction)
        assert ours.drop("delta_patched", "cts").height == result.scores.height > 0
        assert (ours["delta_patched"] - result.scores["delta_patched"]).abs().max() < 1e-4
        assert ours["token_id"].equals(result.scores["token_id"])
    # By prompt, then by direction; repaired texts have a name of their own, unpatched ones are there once.
    assert both.scores.select("prompt_id", "direction").unique(maintain_order=True).rows() == [
        (prompt, direction) for prompt in questions for direction in ("corrupt", "repair")
    ]
    counts = dict(both.generations.group_by("condition").len().iter_rows())
    assert counts == {"clean": 2, "corrupted": 2, "patched": 4, "repaired": 4}
    texts = alone["repair"].generations.filter(pl.col("patch").is_not_null())["text"]
    assert both.generations.filter(condition="repaired")["text"].equals(texts)
    assert set(both.profile()["direction"]) == {"corrupt", "repair"}


def test_the_text_of_a_patch_is_that_of_a_direction(qwen3_pair):
    result = patch(qwen3_pair, QUESTION, layers=[1], direction="both", max_new_tokens=6)
    texts = {c: result.generations.filter(condition=c)["text"][0] for c in ("patched", "repaired")}
    assert result.text("L1.resid_post") == texts["patched"]
    assert result.text("L1.resid_post", direction="repair") == texts["repaired"]
    alone = patch(qwen3_pair, QUESTION, layers=[1], direction="repair", max_new_tokens=6)
    assert alone.text("L1.resid_post") == alone.text("L1.resid_post", direction="repair") == texts["repaired"]
    with pytest.raises(UsageError, match=r"nothing was generated under L1\.resid_post"):
        alone.text("L1.resid_post", direction="corrupt")


@pytest.mark.parametrize(
    ("layers", "meant"),
    [
        (2, [2]),
        (-1, [3]),
        ([-1, 0], [0, 3]),
        (np.int64(2), [2]),
        (np.array(2), [2]),
        (torch.tensor(-2), [2]),
        (np.arange(1, 3), [1, 2]),
        (torch.tensor([3, 1]), [1, 3]),
        (range(0, 4, 2), [0, 2]),
        ((np.int32(1), 1, -3), [1]),
        ("all", [0, 1, 2, 3]),
    ],
)
def test_layers_are_numbers_of_any_kind(qwen3_pair, layers, meant):
    result = patch(qwen3_pair, QUESTION, layers=layers, max_new_tokens=1)
    assert sorted(result.scores["layer"].unique()) == meant


def test_heads_are_numbers_of_any_kind(qwen3_pair):
    result = patch(qwen3_pair, QUESTION, layers=1, component="head", heads=[-1, np.int8(0)], max_new_tokens=1)
    assert sorted(result.scores["head"].unique()) == [0, 3]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (4, "layer 4 is out of range: the model has 4 blocks, 0 to 3"),
        ([-5], "layer -5 is out of range"),
        ([1.5], "got layer 1.5, expected a whole number"),
        ("last", 'expected "all" or numbers such as'),
        (["1"], "got layer '1'"),
    ],
)
def test_layers_that_are_none(layers, words):
    with pytest.raises(UsageError, match=words):
        numbered("layer", layers, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.bfloat16"])
def test_precisions_are_torchs_or_their_names(dtype):
    pair = ModelPair.load("random:qwen3", "random:qwen3", dtype=dtype, layers=-1, device="cpu")
    assert pair.clean.dtype == pair.corrupted.dtype == torch.bfloat16
    for wrong in (torch.int8, "int8", "half of it", None):
        with pytest.raises(UsageError, match="expected float32, bfloat16 or float16"):
            ModelPair.load("random:qwen3", "random:qwen3", dtype=wrong)


def test_settings_take_numbers_of_any_kind():
    patch = Experiment.model_validate({"patch": {"layers": np.array([1, 2]), "heads": np.int64(3)}}).patch
    assert (patch.layers, patch.heads) == ((1, 2), (3,))


# Scores along a text


def test_scores_have_directions(qwen3_pair):
    options = {"text": "x = 9", "patches": ["L1.resid_post", "L2.attn_out"]}
    both = score(qwen3_pair, "p", QUESTION, direction="both", **options)
    for direction in ("corrupt", "repair"):
        assert both.filter(direction=direction).equals(score(qwen3_pair, "p", QUESTION, direction=direction, **options))
    # With the models exchanged so are the directions.
    other = ModelPair(qwen3_pair.corrupted, qwen3_pair.clean, qwen3_pair.prompts)
    exchanged = score(other, "p", QUESTION, direction="repair", **options)
    corrupt = both.filter(direction="corrupt")
    assert (exchanged["delta_patched"] + corrupt["delta_patched"]).abs().max() < 1e-4
    assert exchanged["clean_token_id"].equals(corrupt["corrupted_token_id"])


@pytest.mark.parametrize(("dtype", "threshold"), [(torch.float32, 1e-4), (torch.bfloat16, 0.25)])
def test_the_threshold_of_scores_is_that_of_the_precision(dtype, threshold):
    pair = ModelPair.load("random:qwen3", "random:qwen3", dtype=dtype, device="cpu")
    found = score(pair, "p", QUESTION, "x = 9, so x is 9, for 2 times 9 is 18 and no more", ["L1.resid_post"])
    apart = found.filter(pl.col("clean_token_id") != pl.col("corrupted_token_id"))
    assert apart.height > 5
    for row in apart.iter_rows(named=True):
        small = abs(row["delta_corrupted"] - row["delta_clean"]) < threshold
        assert row["status"] == ("small_denominator" if small else "ok")
    loose = score(pair, "p", QUESTION, "x = 9", "L1.resid_post", small_denominator=1e9)
    assert not (loose["status"] == "ok").any()


def test_a_solution_is_tokenised_with_its_question(qwen3_pair):
    raw = ModelPair.of(qwen3_pair.clean, qwen3_pair.corrupted, qwen3_pair.prompts.tokenizer, raw=True)
    prompt, tokens = raw.prompts.example(QUESTION, "Subtract 3")
    found = score(raw, "p", QUESTION, "Subtract 3", ["L1.resid_post"])
    assert found.equals(score(raw, "p", QUESTION, tokens, ["L1.resid_post"]))
    assert found["position"].to_list() == [len(prompt) - 1 + i for i in range(len(tokens))]
