"""Null truth: where there is nothing, nothing is claimed; on tiny models, through the engine and all statistics."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import polars as pl
import pytest
import torch

from crosspatch.frames import BEHAVIOUR, CONTROLS
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_model, tiny_tokenizer
from crosspatch.patching.controls import ControlReader, Followed
from crosspatch.patching.given_text import GivenText
from crosspatch.patching.patches import Patch
from crosspatch.patching.sweep import patch
from crosspatch.patching.trajectory import PatchRun
from crosspatch.results import bootstrap, permutation
from crosspatch.results.claim import Claim
from crosspatch.results.claims import claims
from crosspatch.results.comparison import comparisons
from crosspatch.results.depth import depth_statistics
from crosspatch.results.tokens import token_statistics
from pairs import child_of

WORLDS, EACH = 100, 12
DOMAINS = ("related", "unrelated_math", "general")
QUESTIONS = {
    f"{domain}-{i:02d}": f"{words} {i}: {'abcdefghijkl'[i]} + {3 * i + k} = {7 * i + 11}"
    for k, (domain, words) in enumerate(zip(DOMAINS, ("Solve", "What is the sum of", "Tell me about"), strict=True))
    for i in range(EACH)
}
_CELL = ["prompt_id", "patch", "step"]
_PATCHED = ["delta_patched", "cts", "kl_patched", "rank_corrupted", "token_id"]


@dataclasses.dataclass(frozen=True)
class World:
    """The tables that claims are made of."""

    scores: pl.DataFrame
    controls: pl.DataFrame
    behaviour: pl.DataFrame
    domains: dict[str, str]

    def claims(self) -> list[Claim]:
        depth = depth_statistics(self.scores, self.controls, self.domains)
        tokens = token_statistics(self.scores, self.domains)
        return claims(depth, tokens, comparisons(self.behaviour))


def pair_of(child) -> ModelPair:
    return ModelPair(tiny_model("qwen3"), child, PromptFormat(tiny_tokenizer(), raw=True))


def patched(pair: ModelPair) -> pl.DataFrame:
    return patch(pair, QUESTIONS, max_new_tokens=12, self_check=False).scores


@cache
def measured() -> World:
    """A child of no training patched into its base, with another such child as a control beside a random direction."""
    clean = tiny_model("qwen3")
    first, second = (child_of(clean, seed, scale=0.12) for seed in (1, 2))
    pair = pair_of(first)
    scores = patched(pair)
    rows = []
    for i, (prompt_id, question) in enumerate(QUESTIONS.items()):
        texts: dict[tuple[int, ...], dict[Patch, list[int]]] = {}
        for part in scores.filter(prompt_id=prompt_id).partition_by("patch", maintain_order=True):
            if steps := part.filter(status="ok")["step"].to_list():
                texts.setdefault(tuple(part["token_id"]), {})[Patch.parse(part["patch"][0])] = steps
        for text, steps_of in texts.items():
            reader = ControlReader(pair, Followed(GivenText(pair.encode(question), text), steps_of), PatchRun())
            moves = {
                "twin": reader.moved(second),
                "random": reader.moved("random", torch.Generator().manual_seed(i)),
                "self": reader.moved("self"),
            }
            rows += list(reader.rows(moves, prompt_id))
    domains = {name: name.rsplit("-", 1)[0] for name in QUESTIONS}
    return World(scores, CONTROLS.frame(rows), BEHAVIOUR.frame(), domains)


def null(world: World, rng: np.random.Generator) -> World:
    """A world in which nothing of what is claimed is so: prompts drawn anew, and every label dealt by chance.

    Prompts get domains by chance; in each prompt the child and the twin change places by a coin, and so do the models
    in their answers; words are dealt to the tokens of the vocabulary by chance.
    """
    names = list(QUESTIONS)
    drawn = rng.choice(names, len(names))
    domains = dict(
        zip((f"p{i:02d}" for i in range(len(names))), rng.permutation(list(world.domains.values())), strict=True)
    )
    texts = world.scores.select("token_id", "token").unique("token_id", maintain_order=True)
    words = dict(zip(texts["token_id"], rng.permutation(texts["token"].to_numpy()), strict=True))
    scores, controls, behaviour = [], [], []
    own = {key[0]: part for key, part in world.scores.partition_by("prompt_id", as_dict=True).items()}
    beside = {key[0]: part for key, part in world.controls.partition_by("prompt_id", as_dict=True).items()}
    for new, name in zip(domains, drawn, strict=True):
        score, control = own[name], beside[name]
        if rng.random() < 0.5:
            score, control = exchanged(score, control)
        dealt = pl.col("token_id").replace_strict(words, default="?")
        scores.append(score.with_columns(prompt_id=pl.lit(new), token=dealt))
        controls.append(control.with_columns(prompt_id=pl.lit(new)))
        behaviour += dealt_answers(new, domains[new], rng)
    return World(pl.concat(scores), pl.concat(controls), BEHAVIOUR.frame(behaviour), domains)


def exchanged(scores: pl.DataFrame, controls: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Child and twin in each other's place, in the cells that have a score."""
    twin = controls.filter(control="twin")
    there = scores.join(twin.select(*_CELL, *_PATCHED), on=_CELL, how="left", suffix="_twin", maintain_order="left")
    changed = there.with_columns(pl.coalesce(f"{name}_twin", name).alias(name) for name in _PATCHED)
    back = twin.join(scores.select(*_CELL, *_PATCHED), on=_CELL, suffix="_own", maintain_order="left")
    twins = back.with_columns(pl.col(f"{name}_own").alias(name) for name in _PATCHED)
    return changed.select(scores.columns), pl.concat(
        [twins.select(controls.columns), controls.filter(control="random")]
    )


def dealt_answers(prompt_id: str, domain: str, rng: np.random.Generator) -> list[dict]:
    """Answers of all models to one question, each right or wrong by a coin of the question's own."""
    right, planted = rng.random(2)
    conditions = [
        ("clean", None),
        ("corrupted", None),
        ("twin", None),
        *(("patched", f"L{i}.resid_post") for i in range(4)),
    ]
    return [
        {
            "prompt_id": prompt_id,
            "domain": domain,
            "condition": condition,
            "patch": patch_name,
            "extracted": None,
            "verdict": "correct" if rng.random() < right else "incorrect",
            "operation": ("planted" if rng.random() < planted else "right") if domain == "related" else None,
            "health": [],
        }
        for condition, patch_name in conditions
    ]


@pytest.fixture
def fewer_draws(monkeypatch):
    """The rate of false claims is that of the method, with a little more noise."""
    monkeypatch.setattr(bootstrap, "DRAWS", 400)
    monkeypatch.setattr(permutation, "PERMUTATIONS", 400)


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_draws")
def test_over_bootstrapped_null_worlds_few_claims_are_false():
    rng = np.random.default_rng(0)
    made: dict[str, list[bool]] = {}
    for _ in range(WORLDS):
        for claim in null(measured(), rng).claims():
            # What transfers at which depth is no matter of chance here; it needs a transfer that is shown.
            if claim.name not in ("gradual", "late"):
                made.setdefault(claim.name, []).append(claim.shown)
    assert {"builds_up", "disagree_more", "transfer_more", "class_disagreement_rate", "class_transfer"} <= made.keys()
    assert {"behaviour_correct", "behaviour_planted", "kept", "answers_patched"} <= made.keys()
    everything = [shown for of_name in made.values() for shown in of_name]
    assert len(everything) > 8 * WORLDS
    rates = {name: sum(shown) / len(shown) for name, shown in made.items()}
    assert sum(everything) / len(everything) <= 0.05, rates
    assert max(rates.values()) <= 0.10, rates


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_draws")
def test_the_same_pair_has_claims_where_there_is_something():
    shown = {claim.name: claim for claim in measured().claims() if claim.shown}
    # A last-but-one layer carries its own child's wishes, and no random direction or other child does.
    assert "builds_up" in shown


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_draws")
def test_two_identical_models_give_no_claim_at_all():
    pair = pair_of(tiny_model("qwen3"))
    scores = patched(pair)
    assert set(scores["status"]) == {"agree"}
    rng = np.random.default_rng(0)
    answers = [row for name in QUESTIONS for row in dealt_answers(name, measured().domains[name], rng)]
    same = {row["prompt_id"]: row["verdict"] for row in answers if row["condition"] == "clean"}
    rows = [{**row, "verdict": same[row["prompt_id"]], "operation": None} for row in answers]
    world = World(scores, CONTROLS.frame(), BEHAVIOUR.frame(rows), measured().domains)
    found = world.claims()
    assert len(found) > 10
    assert [claim.sentence for claim in found if claim.shown] == []
