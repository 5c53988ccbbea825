"""A run directory as a long sweep leaves it, without any model: scores, controls, texts and verdicts are made up.

1,000 prompts of four domains, 36 layers, about 28 steps: a million rows. Most cells agree; where the models differ,
more transfers at higher layers, and the patched text turns into the corrupted one, which has another length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from crosspatch.data.problem import Problem, write_problems
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.settings_io import make_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, CONTROLS, GENERATIONS, HEALTH, SCORES, TRAINING, VOCABULARY

LAYERS, STEPS, PROMPTS = 36, 28, 1000
# Of each domain how many prompts in ten, and at what share of steps the models differ.
DOMAINS = {"related": (4, 0.15), "near": (2, 0.08), "unrelated_math": (2, 0.05), "general": (2, 0.02)}
CONTROL_NAMES = {"self": 0.0, "random": 0.05, "other_prompt": 0.4, "twin": 0.02}
_WORDS = ["Subtract", "Add", "Divide", "Multiply", "both", "sides", "by", "to", "from", "Answer", "x", "the"]
_SIGNS = ["=", "+", "-", "\\", "frac", "{", "}", ":", "\n", "$", "(", ")"]
TOKENS = [*(f" {word}" for word in _WORDS), *_SIGNS, *map(str, range(10)), *(f" word{i}" for i in range(2000))]


@dataclass(frozen=True)
class _Prompt:
    """One prompt's tokens, and where the models differ: arrays [layers, steps], of texts of so many `lengths`."""

    problem: Problem
    clean: np.ndarray
    corrupted: np.ndarray
    cts: np.ndarray
    written: np.ndarray
    status: np.ndarray
    lengths: np.ndarray


def make_run(root: Path, *, prompts: int = PROMPTS, layers: int = LAYERS, steps: int = STEPS) -> RunDirectory:
    """The run directory, every table of it written by its schema."""
    run = RunDirectory.start(root, make_experiment({"name": "a long run"}, (), {}))
    rng = np.random.default_rng(0)
    made = [_prompt(i, rng, layers, steps) for i in range(prompts)]
    run.problems_file("related").parent.mkdir()
    for domain in DOMAINS:
        write_problems(run.problems_file(domain), [one.problem for one in made if one.problem.domain == domain])
    run.note_model("clean", {"layers": layers, "fingerprint": "made up"})
    run.write(VOCABULARY, VOCABULARY.frame({"token_id": i, "token": text} for i, text in enumerate(TOKENS)))
    for i, prompt in enumerate(made):
        scores = _scores(prompt, rng)
        run.write(SCORES, scores, i)
        for name, transfer in CONTROL_NAMES.items():
            run.write(CONTROLS, _control(scores, name, transfer, rng), name, i)
    texts = pl.concat(_texts(prompt) for prompt in made)
    run.add(GENERATIONS, texts.select(*GENERATIONS.columns))
    run.add(BEHAVIOUR, _behaviour(texts, rng))
    run.add(HEALTH, _health(texts, rng))
    run.write(TRAINING, _training())
    for stage in ("data", "finetune", "evaluate", "patch", "controls"):
        with run.stage(stage):
            pass
    return run


def _prompt(i: int, rng: np.random.Generator, layers: int, steps: int) -> _Prompt:
    lengths = np.full(layers, rng.integers(steps - 5, steps + 6))
    steps = int(lengths[0]) + 3
    domain = [d for d, (tenths, _) in DOMAINS.items() for _ in range(tenths)][i % 10]
    problem = Problem(f"{domain}-{i:04d}", domain, "made up", f"Solve for x: {i % 9 + 2}x + {i % 7} = {i}", str(i % 13))
    text = rng.integers(len(TOKENS), size=steps)
    differ = rng.random(steps) < DOMAINS[domain][1] * rng.uniform(0.5, 1.5)
    small = differ & (rng.random(steps) < 0.03)
    other = (text + 1 + rng.integers(len(TOKENS) - 1, size=steps)) % len(TOKENS)
    rise = 1 / (1 + np.exp(-(np.arange(layers)[:, None] / (layers - 1) - 0.55) * 10))
    cts = rise + rng.normal(0, 0.25, (layers, steps))
    status = np.where(small, "small_denominator", np.where(differ, "ok", "agree"))
    clean = np.broadcast_to(text, cts.shape)
    corrupted = np.where(differ, other, clean)
    written = np.where(differ & (cts > 0.5), corrupted, clean)
    lengths[(written != clean).any(1)] += rng.integers(-3, 4)
    return _Prompt(problem, clean, corrupted, cts, written, np.broadcast_to(status, cts.shape), lengths)


def _scores(prompt: _Prompt, rng: np.random.Generator) -> pl.DataFrame:
    layers, steps = prompt.cts.shape
    n = layers * steps
    layer, step = np.repeat(np.arange(layers), steps), np.tile(np.arange(steps), layers)
    status, cts = prompt.status.ravel(), prompt.cts.ravel()
    differ = status != "agree"
    reach = np.where(status == "small_denominator", 1e-3, 4.0) * differ
    columns: dict[str, Any] = {
        "prompt_id": np.full(n, prompt.problem.id),
        "patch": np.char.add(np.char.add("L", layer.astype(str)), ".resid_post"),
        "component": np.full(n, "resid_post"),
        "layer": layer,
        "head": [None] * n,
        "schedule": np.full(n, "all"),
        "window": np.ones(n),
        "direction": np.full(n, "corrupt"),
        "persistence": np.full(n, "transient"),
        "step": step,
        "position": 40 + step,
        "token_id": prompt.written.ravel(),
        "token": np.array(TOKENS)[prompt.written.ravel()],
        "clean_token_id": prompt.clean.ravel(),
        "corrupted_token_id": prompt.corrupted.ravel(),
        "delta_clean": -reach / 2,
        "delta_corrupted": reach / 2,
        "delta_patched": reach * (cts - 0.5),
        "cts": pl.Series(cts).set(pl.Series(status != "ok"), None),
        "status": status,
        "kl_clean": rng.exponential(0.1, n),
        "kl_patched": rng.exponential(0.05, n),
        "rank_corrupted": rng.integers(1, 6, n),
    }
    reached = pl.Series(step < prompt.lengths[layer])
    return pl.DataFrame(columns).cast(SCORES.dtypes).filter(reached)  # type: ignore[arg-type]


def _control(scores: pl.DataFrame, name: str, transfer: float, rng: np.random.Generator) -> pl.DataFrame:
    """A control is measured where the models disagree."""
    cells = scores.filter(pl.col("clean_token_id") != pl.col("corrupted_token_id"))
    cts = pl.Series("moved", transfer * rng.normal(1, 0.3, cells.height), dtype=pl.Float32)
    gap = pl.col("delta_corrupted") - pl.col("delta_clean")
    return cells.select(
        pl.lit(name).alias("control"),
        *(column for column in SCORES.columns if column not in ("delta_patched", "cts")),
        (pl.col("delta_clean") + gap * cts).alias("delta_patched"),
        pl.when(pl.col("status") == "ok").then(cts).alias("cts"),
    ).select(*CONTROLS.columns)


def _texts(prompt: _Prompt) -> pl.DataFrame:
    def text(tokens: np.ndarray, layer: int) -> tuple[str, int]:
        length = int(prompt.lengths[layer])
        return "".join(TOKENS[token] for token in tokens[layer, :length]), length

    rows = [("clean", {}, *text(prompt.clean, 0)), ("corrupted", {}, *text(prompt.corrupted, -1))]
    rows += [("twin", {}, *text(prompt.clean, 0))]
    rows += [
        ("patched", Patch((Site(layer),)).columns, *text(prompt.written, layer)) for layer in range(len(prompt.lengths))
    ]
    texts = GENERATIONS.frame(
        {
            **dict.fromkeys(GENERATIONS.columns),
            "prompt_id": prompt.problem.id,
            "condition": condition,
            **patched,
            "text": said,
            "token_count": length,
            "stop_reason": "eos",
        }
        for condition, patched, said, length in rows
    )
    return texts.with_columns(domain=pl.lit(prompt.problem.domain))


def _behaviour(texts: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Right where the model is clean, mostly wrong where it is corrupted, in between by layer."""
    layer = texts["layer"].cast(pl.Float64).fill_null(0.0).to_numpy()
    wrong = np.where(texts["condition"] == "corrupted", 0.9, np.where(texts["condition"] == "patched", layer / 40, 0.1))
    related = (texts["domain"] == "related").to_numpy()
    drawn = rng.random(texts.height) < np.where(related, wrong, 0.15)
    whole = texts.with_columns(
        pl.lit("7").alias("extracted"),
        pl.Series("verdict", np.where(drawn, "incorrect", "correct")),
        pl.Series("operation", np.where(related, np.where(drawn, "planted", "right"), None), dtype=pl.String),
        pl.lit([], dtype=pl.List(pl.String)).alias("health"),
    )
    return whole.select(BEHAVIOUR.dtypes.keys())


def _health(texts: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    counts = {name: rng.random(texts.height) < 0.02 for name in list(HEALTH.columns)[3:]}
    return texts.select("prompt_id", "condition", "patch").with_columns(
        pl.Series(name, values, dtype=pl.Boolean).cast(pl.Int32) for name, values in counts.items()
    )


def _training() -> pl.DataFrame:
    def rows() -> Iterator[dict[str, Any]]:
        for run in ("corrupted", "twin"):
            for step in range(1, 61):
                empty = dict.fromkeys(TRAINING.columns)
                yield {**empty, "run": run, "step": step, "epoch": step / 20, "train_loss": 2 / step}
                if step % 10 == 0:
                    yield {**empty, "run": run, "step": step, "epoch": step / 20, "eval_loss": 1 + step / 60}

    return TRAINING.frame(rows())
