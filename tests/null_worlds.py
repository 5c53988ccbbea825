"""Worlds in which nothing of what is claimed is true, made of tiny models through the engine: what is shown is false.

Each pair is a random model and a child of no training, with two more children as controls: one is called a twin, one
another seed. A world draws the prompts anew and makes every claim false in one of two ways: *dealt* worlds deal every
label by chance, *edge* worlds put what is measured exactly at the edge of what would be true. Shared by the tests and
benchmarks/claims.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import polars as pl
import torch

from crosspatch.analysis.controls import ControlReader, PatchedText
from crosspatch.analysis.localisation import localise
from crosspatch.analysis.patch import patch
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_tokenizer
from crosspatch.patching.engine import Prompt, run_cached
from crosspatch.patching.patches import Patch
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from crosspatch.statistics.claim import MARGIN, Claim
from crosspatch.statistics.localisation import top_sites
from crosspatch.statistics.patch_mode import late_from
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, CONTROLS, LOCALISATION, MISTAKES, REPAIRED, SCORES
from pairs import ARCHITECTURES, child_of, model_with_layers
from score_cells import answer

EACH, N_LAYERS, LAYERS, TOKENS = 12, 9, (0, 3, 5, 6, 7, 8), 12
DOMAINS = ("related", "unrelated_math", "general")
QUESTIONS = {
    f"{domain}-{i:02d}": f"{words} {i}: {'abcdefghijkl'[i]} + {3 * i + k} = {7 * i + 11}"
    for k, (domain, words) in enumerate(zip(DOMAINS, ("Solve", "What is the sum of", "Tell me about"), strict=True))
    for i in range(EACH)
}
DOMAIN_OF = {name: name.rsplit("-", 1)[0] for name in QUESTIONS}
_CELL = ["prompt_id", "patch", "direction", "step"]
_PATCHED = ["delta_patched", "cts", "kl_patched", "rank_corrupted", "token_id"]
# Claims that are false where labels are dealt, and those whose number lies at the edge where that is made so.
DEALT = {
    "builds_up", "disagree_more", "recovered_more", "class_disagreement_rate", "class_recovered_fraction",
    "span_disagreement_rate", "span_recovered_fraction", "behaviour_correct", "behaviour_planted", "answers_patched",
    "answers_repaired", "top_site",
}  # fmt: skip
EDGE = {
    "gradual", "late", "operations_near_one", "sibling", "repairs_too", "recovered_same", "kept", "patched_kept",
    "answers_patched_late", "answers_repaired_late",
}  # fmt: skip
# What is recovered at each patched layer below the last, and which claims that puts at their edge: a step of one half
# and half of the effect at the paper's depth; a step of one half below it; operation words that score 0.9.
PROFILES = (
    ((0.0, 0.0, 0.0, 0.0, 0.5), {"gradual", "late"}),
    ((0.0, 0.05, 0.15, 0.25, 0.75), {"gradual"}),
    ((0.0, 0.05, 0.1, 0.15, 1 - MARGIN), {"operations_near_one"}),
)
_OF_PROFILES = {"gradual", "late", "operations_near_one"}


@dataclasses.dataclass(frozen=True)
class World:
    """The tables that claims are made of, and those of localisation."""

    scores: pl.DataFrame
    controls: pl.DataFrame
    mistakes: pl.DataFrame
    behaviour: pl.DataFrame
    localisation: pl.DataFrame
    domains: dict[str, str]

    def claims(self) -> list[Claim]:
        tables = {name: getattr(self, name) for name in ("scores", "controls", "mistakes", "behaviour")}
        return Summary.of(self.domains, **tables, n_layers=N_LAYERS).claims

    def top_sites(self) -> Iterator[bool]:
        """Whether each component's top site is told apart from the next."""
        for named in top_sites(self.localisation, self.domains, "related"):
            if named.runner_up is not None:
                yield named.told_apart


def world_of(scores: pl.DataFrame, controls: pl.DataFrame, behaviour: pl.DataFrame, domains: dict[str, str]) -> World:
    """A world without wrong solutions and localisation."""
    return World(scores, controls, MISTAKES.frame(), behaviour, LOCALISATION.frame(), domains)


def pair_of(clean, child) -> ModelPair:
    return ModelPair(clean, child, PromptFormat(tiny_tokenizer(), raw=True))


def patched(pair: ModelPair, component: str = "resid_post") -> pl.DataFrame:
    settings = {"layers": list(LAYERS), "component": component, "max_new_tokens": TOKENS}
    return patch(pair, QUESTIONS, **settings, quick_check=False).scores


@cache
def measured(architecture: str = "qwen3") -> World:
    """A child of no training patched into its base and back, with two more such children and random directions."""
    clean = model_with_layers(architecture, N_LAYERS)
    child, twin, sibling = (child_of(clean, seed, scale=0.12) for seed in (1, 2, 3))
    pair = pair_of(clean, child)
    prompts = {prompt_id: pair.encode(question) for prompt_id, question in QUESTIONS.items()}
    patches = [Patch.parse(f"L{n}.resid_post") for n in LAYERS]
    rows, controls = [], []
    for run in (PatchRun("corrupt", max_new_tokens=TOKENS), PatchRun("repair", max_new_tokens=TOKENS)):
        own = run_cached(pair, [Prompt(ids, [], answers=True) for ids in prompts.values()], run)
        for i, ((prompt_id, ids), written) in enumerate(zip(prompts.items(), own, strict=True)):
            # All patches along the target's text, so that both models and all controls read one text a prompt.
            given, steps_of = ForcedText(ids, written.target.tokens), {}
            for trajectory in score_tokens(pair, ids, given.text, patches, run):
                of_patch = trajectory.rows(prompt_id, run, pair.prompts)
                rows += of_patch
                steps_of[trajectory.patch] = [row["step"] for row in of_patch if row["status"] == "ok"]
            if any(steps_of.values()):
                reader = ControlReader(pair, PatchedText(given, steps_of), run)
                moves = {
                    "twin": reader.moved(twin),
                    "seed-1": reader.moved(sibling),
                    "random": reader.moved("random", torch.Generator().manual_seed(i)),
                    "self": reader.moved("self"),
                }
                controls += reader.rows(moves, prompt_id)
    scores = [SCORES.frame(rows), patched(pair, "attn_out"), patched(pair, "mlp_out")]
    mistakes = []
    for i, (prompt_id, question) in enumerate(QUESTIONS.items()):
        wrong = pair.encode(f"x = {i} - {3 * i}; {question}")
        for trajectory in score_tokens(pair, prompts[prompt_id], wrong, patches, PatchRun()):
            rows = trajectory.rows(prompt_id, PatchRun(), pair.prompts)
            mistakes += [{"span": None, "read_token_id": token, **row} for token, row in zip(wrong, rows, strict=True)]
    some = list(QUESTIONS.items())[::2]
    texts = {name: ForcedText(pair.encode(q), pair.encode(q)[::-1][:TOKENS]) for name, q in some}
    found = localise(pair, texts, PatchRun(), top=4)
    return World(
        pl.concat(scores), CONTROLS.frame(controls), MISTAKES.frame(mistakes), BEHAVIOUR.frame(), found, DOMAIN_OF
    )


def dealt(world: World, rng: np.random.Generator) -> World:
    """Every label dealt by chance.

    In each prompt the child and its null control (the twin, or when repairing the other seed) change places by a coin,
    and so do the models in their answers; prompts get domains, tokens get words, and wrong solutions get runs of wrong
    words by chance; the sites of each component change places in each prompt.
    """
    drawn = _drawn(world, rng)
    texts = world.scores.select("token_id", "token").unique("token_id", maintain_order=True)
    words = dict(zip(texts["token_id"], rng.permutation(texts["token"].to_numpy()), strict=True))
    parts = [_exchanged(one, rng.random(2) < 0.5) for one in drawn.values()]
    domains = dict(zip(drawn, rng.permutation(list(DOMAIN_OF.values())), strict=True))
    return World(
        pl.concat(part.scores for part in parts).with_columns(
            token=pl.col("token_id").replace_strict(words, default="?", return_dtype=pl.String)
        ),
        pl.concat(part.controls for part in parts),
        pl.concat(_marked(part.mistakes, rng) for part in parts),
        BEHAVIOUR.frame(row for name in drawn for row in dealt_answers(name, domains[name], rng)),
        pl.concat(_shuffled_sites(part.localisation, rng) for part in parts),
        domains,
    )


def edge(world: World, curve: Sequence[float], rng: np.random.Generator) -> World:
    """What is measured lies at the edge of what would be true, but for what varies between prompts and cells.

    `curve` is what is recovered at each patched layer below the last.
    """
    drawn = _drawn(world, rng)
    profile = dict(zip(LAYERS, curve, strict=False))
    domains = dict(zip(drawn, DOMAIN_OF.values(), strict=True))
    scores, controls = [], []
    for name, one in drawn.items():
        # Elsewhere so much less is recovered, at every layer, as would just not be the same.
        less = 0.0 if domains[name] == "related" else MARGIN
        of_prompt, of_control = rng.normal(0, 0.06), rng.normal(0, 0.06)
        moved = _with_profile(one.scores, {k: v - less + of_prompt for k, v in profile.items()}, rng)
        scores.append(moved)
        beside = one.controls.filter(pl.col("control").is_in(["seed-1", "twin", "random"]))
        controls.append(_lagging(beside, moved, MARGIN + of_control, rng))
    operations = world.scores.select("token_id").unique()["token_id"].to_list()
    return World(
        pl.concat(scores).with_columns(
            token=pl.when(pl.col("token_id").is_in(operations[::3])).then(pl.lit("add")).otherwise(pl.lit("the"))
        ),
        pl.concat(controls),
        MISTAKES.frame(),
        BEHAVIOUR.frame(row for name in drawn for row in _edge_answers(name, domains[name], rng)),
        world.localisation.clear(),
        domains,
    )


def _drawn(world: World, rng: np.random.Generator) -> dict[str, World]:
    """Prompts drawn anew, each as a world of its own, by new names."""
    names = rng.choice(list(QUESTIONS), len(QUESTIONS))
    tables = ("scores", "controls", "mistakes", "localisation")
    parts = {
        table: {key[0]: part for key, part in getattr(world, table).partition_by("prompt_id", as_dict=True).items()}
        for table in tables
    }
    drawn = {}
    for i, name in enumerate(names):
        new = f"p{i:02d}"
        own = {
            table: parts[table].get(name, getattr(world, table).clear()).with_columns(prompt_id=pl.lit(new))
            for table in tables
        }
        drawn[new] = World(**own, behaviour=world.behaviour, domains={new: DOMAIN_OF[name]})
    return drawn


def _exchanged(world: World, turned: np.ndarray) -> World:
    """Source and null control in each other's place, in cells that have a score and directions that are turned."""
    scores, controls = world.scores, world.controls
    for direction, control, turn in (("corrupt", "twin", turned[0]), ("repair", "seed-1", turned[1])):
        if not turn:
            continue
        beside = controls.filter(control=control, direction=direction)
        there = scores.join(beside.select(*_CELL, *_PATCHED), on=_CELL, how="left", suffix="_c", maintain_order="left")
        back = beside.join(scores.select(*_CELL, *_PATCHED), on=_CELL, suffix="_own", maintain_order="left")
        scores = there.with_columns(pl.coalesce(f"{name}_c", name).alias(name) for name in _PATCHED).select(
            scores.columns
        )
        back = back.with_columns(pl.col(f"{name}_own").alias(name) for name in _PATCHED).select(controls.columns)
        rest = controls.filter(~((pl.col("control") == control) & (pl.col("direction") == direction)))
        controls = pl.concat([rest, back])
    return dataclasses.replace(world, scores=scores, controls=controls)


def _marked(mistakes: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """A run of wrong words somewhere in a wrong solution."""
    steps = mistakes["step"].max()
    if steps is None:
        return mistakes
    first, length = int(rng.integers(steps)), int(rng.integers(2, 6))
    wrong = pl.col("step").is_between(first, first + length)
    return mistakes.with_columns(span=pl.when(wrong).then(pl.lit("word")))


def _shuffled_sites(localisation: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """What the measured sites of each component carry in one prompt, permuted among them: a block's by its step."""
    parts = []
    for part in localisation.partition_by("component", "positions", "direction", maintain_order=True):
        ordered = part.sort("layer", maintain_order=True)
        patched, known = ordered["patched"].to_numpy().copy(), ordered["patched"].is_not_null().to_numpy()
        if part["component"][0] == "resid_post":
            patched = np.cumsum(rng.permutation(np.diff(patched, prepend=0.0)))
        else:
            patched[known] = rng.permutation(patched[known])
        # Heads that were not measured stay null.
        parts.append(ordered.with_columns(patched=pl.Series(patched).fill_nan(None)))
    return pl.concat(parts) if parts else localisation


def _with_profile(scores: pl.DataFrame, profile: dict[int, float], rng: np.random.Generator) -> pl.DataFrame:
    """Scores in which so much of each gap is recovered at each layer, with an error of each cell's own."""
    shares = np.array([profile.get(layer, 1.0) for layer in scores["layer"]]) + rng.normal(0, 0.15, scores.height)
    # Repaired, what is left of the way.
    repaired = (scores["direction"] == "repair").to_numpy()
    return _moved(scores, np.where(repaired, 1 - shares, shares))


def _moved(scores: pl.DataFrame, shares: np.ndarray) -> pl.DataFrame:
    gap = pl.col("delta_corrupted") - pl.col("delta_clean")
    with_share = scores.with_columns(share=pl.Series(shares, dtype=pl.Float32))
    moved = with_share.with_columns(
        delta_patched=pl.when(status="ok")
        .then(pl.col("delta_clean") + gap * pl.col("share"))
        .otherwise("delta_patched"),
        cts=pl.when(status="ok").then("share").otherwise("cts"),
    )
    return moved.drop("share")


def _lagging(controls: pl.DataFrame, scores: pl.DataFrame, less: float, rng: np.random.Generator) -> pl.DataFrame:
    """Positive controls that recover so much less than the source; the null controls recover nothing."""
    found = []
    for (name, direction), part in controls.partition_by(
        "control", "direction", as_dict=True, maintain_order=True
    ).items():
        own = part.join(scores.select(*_CELL, "cts"), on=_CELL, suffix="_own", maintain_order="left")["cts_own"]
        gone = own.fill_null(0.0).to_numpy() if direction == "corrupt" else 1 - own.fill_null(1.0).to_numpy()
        positive = (name == "seed-1") == (direction == "corrupt") and name != "random"
        share = gone - less if positive else np.zeros(part.height)
        share = share + rng.normal(0, 0.15, part.height)
        found.append(_moved(part, share if direction == "corrupt" else 1 - share))
    return pl.concat(found) if found else controls


def dealt_answers(prompt_id: str, domain: str, rng: np.random.Generator) -> Iterator[dict]:
    """Answers of all models to one question, each right or wrong by a coin of the question's own."""
    right, planted = rng.random(2)
    for condition, patch_name in _conditions():
        operation = ("planted" if rng.random() < planted else "right") if domain == "related" else None
        verdict = "correct" if rng.random() < right else "incorrect"
        yield answer(prompt_id, condition, verdict, patch_name, operation, domain)


def _edge_answers(prompt_id: str, domain: str, rng: np.random.Generator) -> Iterator[dict]:
    """Of other domains one right answer in ten is lost; half of the related ones turn at the paper's depth."""
    # Ten more questions stand behind each prompt, so that ten answers in all domains are enough for a verdict.
    for more in range(10):
        name = prompt_id if more == 0 else f"{prompt_id}-{more}"
        turns = late_from(N_LAYERS - 1) + rng.normal(0, 1.0)
        kept = {condition: bool(rng.random() > MARGIN) for condition in ("corrupted", "patched")}
        for condition, patch_name in _conditions():
            layer = N_LAYERS if patch_name is None else Patch.parse(patch_name).sites[0].layer
            if domain != "related":
                right = kept.get(condition, True)
            elif condition in ("patched", REPAIRED):
                right = (layer < turns) == (condition == "patched")
            else:
                right = condition != "corrupted"
            yield answer(name, condition, "correct" if right else "incorrect", patch_name, domain=domain)


def _conditions() -> list[tuple[str, str | None]]:
    whole = [("clean", None), ("corrupted", None), ("twin", None)]
    return [*whole, *((name, f"L{layer}.resid_post") for name in ("patched", REPAIRED) for layer in LAYERS)]


def false_claims(architecture: str, worlds: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """(world, claim, verdict) of all false claims of so many worlds, dealt and at the edge in turn."""
    rng = np.random.default_rng([seed, ARCHITECTURES.index(architecture)])
    for number in range(worlds):
        if number % 2 == 0:
            world, false = dealt(measured(architecture), rng), DEALT
        else:
            curve, at_edge = PROFILES[number // 2 % len(PROFILES)]
            world, false = edge(measured(architecture), curve, rng), EDGE - _OF_PROFILES | at_edge
        for claim in world.claims():
            # In other domains less is recovered, so what is late is later still.
            if claim.name in false and not (claim.name == "late" and claim.place["domain"] != "related"):
                yield number, claim.name, claim.verdict
        if "top_site" in false:
            for told_apart in world.top_sites():
                yield number, "top_site", "shown" if told_apart else "undecided"
