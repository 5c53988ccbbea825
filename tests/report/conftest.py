"""Small scores with everything in them: ragged rows, all three statuses, a value beyond the range."""

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crosspatch.data.problem import Problem
from crosspatch.report.page import write_report
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, GENERATIONS, SCORES, SITE_EFFECTS, TRAINING
from html_reader import HOSTILE
from score_cells import answer, cell, of_text, steps_of

RUN = {"name": "demo", "settings": {"patch": {"layers": [0, 6]}}, "versions": {"torch": "2.13.0"}}


def score(at: int, step: int, cts: float | None = None, status: str | None = None, **more: Any) -> dict[str, Any]:
    """A cell between models that differ by 2 logits, or that agree where no CTS is given."""
    status = status or ("agree" if cts is None else "ok")
    differ, token = status != "agree", 100 + step
    deltas = (float(-differ), float(differ), 0.0 if cts is None else 2 * cts - 1)
    own = {"position": 10 + step, "token": f" t{step}", "token_id": token, "clean_token_id": token, "kl_clean": 0.25}
    own |= {"corrupted_token_id": 900 if differ else token, "cts": cts, "status": status, "kl_patched": None}
    return {**cell("p", at, step, deltas), **steps_of(more), **own, **more}


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


SCORED = SCORES.frame(CELLS)
PROBLEMS = {"p": Problem("p", "related", "linear", "Solve for x: $8x = 41$", "41/8")}


def generation(condition: str, text: str, patch: str | None = None, prompt_id: str = "p") -> dict[str, Any]:
    fixed = {"token_count": 7, "stop_reason": "eos"}
    return {"prompt_id": prompt_id, "condition": condition, **of_text(patch), "text": text, **fixed}


TEXTS = [
    ("patched", "Divide by 8. x = 4", "L29.resid_post"),
    ("patched", "Divide by 8. x = 5", "L6.resid_post"),
    ("clean", "Divide by 8. x = 5"),
    ("corrupted", "Divide it. x = 4"),
]
GENERATED = GENERATIONS.frame(generation(*text) for text in TEXTS)
GRADED = BEHAVIOUR.frame(
    [
        answer("p", "clean", "correct", None, "right"),
        answer("p", "corrupted", "unparsed", None, "planted"),
        answer("p", "patched", "incorrect", "L29.resid_post", "planted") | {"health": ["repetition"]},
    ]
)


# Hostile texts as tokens, in the prompt's name and in every other free column.
ALL_HOSTILE = "".join(HOSTILE)
HOSTILE_QUESTION = ALL_HOSTILE + "\ud83d"
HOSTILE_TEXTS = [("clean", ALL_HOSTILE, None), ("corrupted", ALL_HOSTILE, None), ("patched", ALL_HOSTILE, HOSTILE[0])]
HOSTILE_RUN = {
    "problems": {HOSTILE[0]: Problem(HOSTILE[0], HOSTILE[1], "f", HOSTILE_QUESTION, HOSTILE[0])},
    "scores": SCORES.frame(score(4, i, 0.5, token=token, prompt_id=HOSTILE[0]) for i, token in enumerate(HOSTILE)),
    "generations": GENERATIONS.frame(generation(*text, prompt_id=HOSTILE[0]) for text in HOSTILE_TEXTS),
}


def losses(points: Iterable[tuple[Any, ...]], run: str = "r") -> pl.DataFrame:
    """Curves of points (step, training loss, evaluation loss), of which the last ones may be left out."""
    padded = ((*point, None, None)[:3] for point in points)
    columns = ("step", "train_loss", "eval_loss")
    fixed = {"run": run, "epoch": 0.0, "learning_rate": None, "grad_norm": None}
    return TRAINING.frame(fixed | dict(zip(columns, point, strict=True)) for point in padded)


CURVES = losses([(0, None, 1.0), (1, 1.0), (2, 0.02), (2, None, 0.5)])


def site_effect(
    layer: int, head: int | None, estimate: float | None, measure: str = "attribution", **more: Any
) -> dict[str, Any]:
    """A row of the table of site effects: a head, or the attention's output where no head is given."""
    component = "attn_out" if head is None else "head"
    fixed = {"domain": "related", "direction": "corrupt", "positions": "all", "n_prompts": 4, "steps": 9}
    site = {"patch": f"L{layer}.{component}" + ("" if head is None else f".{head}"), "component": component}
    values = {"layer": layer, "head": head, "measure": measure, "estimate": estimate}
    return {**dict.fromkeys(SITE_EFFECTS.columns), **fixed, **site, **values, **more}


@pytest.fixture(scope="session")
def full_page(made_once: Callable[..., Path]) -> Path:
    """A page of two prompts, two directions, two kinds of components, heads, and texts with formulas."""
    two = PROBLEMS | {"q": Problem("q", "general", "geography", "Which sea?", "")}
    repair = [score(6, step, 0.25, direction="repair") for step in range(2)]
    heads = [
        score(6, step, 0.5, head=2, component="head", patch="L6.head.2", token=token, token_id=500 + step)
        for step, token in enumerate(["so $x", "^2", "$ is", " 41"])
    ]
    other = [score(6, step, prompt_id="q", token=" sea") for step in range(3)]
    scores = SCORES.frame([*CELLS, *repair, *heads, *other])
    texts = pl.concat([GENERATED, GENERATIONS.frame([generation("twin", r"Divide: \(\frac{41}{8}\)")])])
    measured = [(0, 0, 0.02), (0, 1, -0.04), (6, 0, 0.3, "recovered_fraction"), (6, 1, 0.01)]
    effects = SITE_EFFECTS.frame(site_effect(*each) for each in measured)
    summary = Summary.of({"p": "related", "q": "general"}, scores=scores, behaviour=GRADED)

    def make(folder: Path) -> None:
        write_report(
            folder / "report.html",
            title="Demo",
            run=RUN,
            problems=two,
            scores=scores,
            generations=texts,
            behaviour=GRADED,
            training=CURVES,
            summary=replace(summary, site_effects=effects),
            texts={900: " 900", 100: " t0"},
        )
        assert [path.name for path in folder.iterdir()] == ["report.html"]

    return made_once("report", make) / "report.html"
