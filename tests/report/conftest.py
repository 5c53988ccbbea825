"""Small scores with everything in them: ragged rows, all three statuses, a value beyond the range."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.tables import BEHAVIOUR, GENERATIONS, SCORES, TRAINING
from score_cells import of_text, steps_of

HOSTILE = [
    "</script><script>alert(1)</script>",
    '<b>bold</b><a href="https://example.org">x</a>',
    "$\\frac{1}{$",
    "\x00\x07\x1b[31m",
    "\u202egnirts\u200f",
    "日本🗾\u2028\u2029",
    "{{ 7 * 7 }}{% raw %}%{customdata[0]}",
    "x" * 10_000,
    "",
    " \n\t",
]


def score(at: int, step: int, cts: float | None = None, status: str | None = None, **more: Any) -> dict[str, Any]:
    """A cell between models that differ by 2 logits, or that agree where no CTS is given."""
    status = status or ("agree" if cts is None else "ok")
    differ = status != "agree"
    values = {
        "prompt_id": "p",
        "patch": f"L{at}.resid_post",
        "component": "resid_post",
        "layer": at,
        "head": None,
        **steps_of(more),
        "direction": "corrupt",
        "persistence": "transient",
        "step": step,
        "position": 10 + step,
        "token_id": 100 + step,
        "token": f" t{step}",
        "clean_token_id": 100 + step,
        "corrupted_token_id": 900 if differ else 100 + step,
        "delta_clean": -1.0 if differ else 0.0,
        "delta_corrupted": 1.0 if differ else 0.0,
        "delta_patched": 0.0 if cts is None else 2 * cts - 1,
        "cts": cts,
        "status": status,
        "kl_clean": 0.25,
        "kl_patched": None,
        "rank_corrupted": 1,
    }
    return {**values, **more}


CELLS = [
    score(0, 0),
    score(0, 1, 0.125),
    score(6, 0),
    score(6, 1, status="small_denominator"),
    score(6, 2, -0.5),
    score(29, 0, 1.0),
    score(29, 1, 4.0),
    score(29, 2, -2.5),
    score(29, 3),
]


def unpacked(page: str, name: str) -> Any:
    """A part of a page's packed data."""
    [body] = re.findall(rf'<script type="text/plain" id="data-{name}">(.*?)</script>', page)
    return json.loads(zlib.decompress(base64.b64decode(body)))


@pytest.fixture(scope="session")
def scores() -> pl.DataFrame:
    return SCORES.frame(CELLS)


@pytest.fixture
def make_scores() -> Callable[..., pl.DataFrame]:
    return SCORES.frame


@pytest.fixture(scope="session")
def hostile_scores() -> pl.DataFrame:
    """Hostile texts as tokens, in the prompt's name and in every other free column."""
    tokens = [score(4, step, 0.5, token=text, prompt_id=HOSTILE[0]) for step, text in enumerate(HOSTILE)]
    return SCORES.frame(tokens)


@pytest.fixture(scope="session")
def problems() -> dict[str, Problem]:
    return {"p": Problem("p", "related", "linear", "Solve for x: $8x = 41$", "41/8")}


@pytest.fixture(scope="session")
def hostile_problems() -> dict[str, Problem]:
    question = "".join(HOSTILE) + "\ud83d"
    return {HOSTILE[0]: Problem(HOSTILE[0], HOSTILE[1], "f", question, HOSTILE[0])}


def generation(condition: str, text: str, patch: str | None = None, prompt_id: str = "p") -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "condition": condition,
        **of_text(patch),
        "text": text,
        "token_count": 7,
        "stop_reason": "eos",
    }


@pytest.fixture(scope="session")
def generations() -> pl.DataFrame:
    return GENERATIONS.frame(
        [
            generation("patched", "Divide by 8. x = 4", "L29.resid_post"),
            generation("patched", "Divide by 8. x = 5", "L6.resid_post"),
            generation("clean", "Divide by 8. x = 5"),
            generation("corrupted", "Divide it. x = 4"),
        ]
    )


@pytest.fixture(scope="session")
def hostile_generations() -> pl.DataFrame:
    return GENERATIONS.frame(
        [
            generation(condition, text, patch, HOSTILE[0])
            for text in ["".join(HOSTILE)]
            for condition, patch in (("clean", None), ("corrupted", None), ("patched", HOSTILE[0]))
        ]
    )


@pytest.fixture(scope="session")
def behaviour() -> pl.DataFrame:
    def answer(condition: str, verdict: str, operation: str, patch: str | None = None) -> dict[str, Any]:
        return {
            "prompt_id": "p",
            "domain": "related",
            "condition": condition,
            **of_text(patch),
            "extracted": "5",
            "verdict": verdict,
            "operation": operation,
            "health": ["repetition"] if patch else [],
        }

    return BEHAVIOUR.frame(
        [
            answer("clean", "correct", "right"),
            answer("corrupted", "unparsed", "planted"),
            answer("patched", "incorrect", "planted", "L29.resid_post"),
        ]
    )


def loss(step: int, train: float | None = None, evaluation: float | None = None, run: str = "r") -> dict[str, Any]:
    return {
        "run": run,
        "step": step,
        "epoch": 0.0,
        "train_loss": train,
        "eval_loss": evaluation,
        "learning_rate": None,
        "grad_norm": None,
    }


@pytest.fixture(scope="session")
def training() -> pl.DataFrame:
    return TRAINING.frame([loss(0, evaluation=1.0), loss(1, 1.0), loss(2, 0.02), loss(2, evaluation=0.5)])


@pytest.fixture
def make_training() -> Callable[..., pl.DataFrame]:
    return lambda points: TRAINING.frame([loss(*point) for point in points])
