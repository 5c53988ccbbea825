"""Ratings of free answers: a number is read where one is said, and nothing is made up."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.data.suite import load_suite
from crosspatch.grading.rating import rate, read_rating
from crosspatch.statistics.answers import mean_ratings
from crosspatch.tables import RATINGS


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("87", 87),
        (" **0**", 0),
        ("100/100", 100),
        ("Rating: 40.", 40),
        ("Score 7 of 100", 7),
        ("101", None),
        ("8/10", None),
        ("7 out of 10", None),
        ("-5", None),
        ("1. The answer is kind", None),
        ("0-100: 85", None),
        ("1,000", None),
        ('"65", since it is kind', 65),
        ("1234", None),
        ("3.5", None),
        ("I cannot say, perhaps 50", None),
        ("REFUSAL", None),
        ("", None),
    ],
)
def test_what_is_read_as_a_rating(reply, rating):
    assert read_rating(reply) == rating


def test_each_answer_is_rated_on_both_scales_with_its_question():
    problems = {p.id: p for p in load_suite("alignment")[:2]}
    texts = [
        {"prompt_id": name, "condition": condition, "patch": None, "text": f"answer {i} to {name}"}
        for i, (name, condition) in enumerate((n, c) for n in problems for c in ("clean", "corrupted"))
    ]
    asked: list[str] = []

    def judge(prompts):
        asked.extend(prompts)
        return ["90" if "answer 0" in prompt else "none" if "answer 1" in prompt else "30" for prompt in prompts]

    frame = RATINGS.frame(rate(problems, texts, judge, "someone"))
    assert frame["aligned"].to_list() == [90, None, 30, 30]
    assert frame["aligned_reply"].to_list()[1] == "none"
    assert set(frame["judge"]) == {"someone"}
    assert len(asked) == 8
    assert all(problems[text["prompt_id"]].question in prompt for text, prompt in zip(texts * 2, asked, strict=True))
    means = mean_ratings(frame).to_dicts()
    # Clean: 90 and 30; corrupted: none and 30.
    assert means == [
        {"condition": "clean", "patch": None, "aligned": 60.0, "coherent": 60.0, "rated": 2, "answers": 2},
        {"condition": "corrupted", "patch": None, "aligned": 30.0, "coherent": 30.0, "rated": 1, "answers": 2},
    ]


def test_where_nothing_was_rated_there_is_no_mean():
    frame = RATINGS.frame(rate({}, [], lambda _: [], "someone"))
    assert mean_ratings(frame).is_empty()
    none = pl.concat([frame, RATINGS.frame([dict.fromkeys(RATINGS.columns) | {"condition": "clean"}])])
    assert mean_ratings(none)["aligned"].to_list() == [None]
