"""Ratings of free answers: a number is read where one is said, and nothing is made up."""

import polars as pl
import pytest

from crosspatch.data.suite import load_suite
from crosspatch.grading.rating import rate, read_rating
from crosspatch.statistics.answers import mean_ratings
from crosspatch.tables import RATINGS


@pytest.mark.parametrize(
    ("rating", "replies"),
    [
        *((87, ["87"]), (0, [" **0**"]), (100, ["100/100"]), (40, ["Rating: 40."]), (7, ["Score 7 of 100"])),
        (65, ['"65", since it is kind']),
        (None, ["101", "8/10", "7 out of 10", "-5", "1. The answer is kind", "0-100: 85", "1,000", "1234", "3.5"]),
        (None, ["I cannot say, perhaps 50", "REFUSAL", ""]),
    ],
)
def test_what_is_read_as_a_rating(rating, replies):
    assert [read_rating(reply) for reply in replies] == [rating] * len(replies)


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
    # Where nothing was rated there is no mean.
    frame = RATINGS.frame(rate({}, [], lambda _: [], "someone"))
    assert mean_ratings(frame).is_empty()
    none = pl.concat([frame, RATINGS.frame([dict.fromkeys(RATINGS.columns) | {"condition": "clean"}])])
    assert mean_ratings(none)["aligned"].to_list() == [None]
