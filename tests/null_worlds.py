"""Null worlds: tables in which every claim is false, made of tiny models through the engine.

Each pair is a random model and an untrained child, with two more children as controls: a twin and another seed. A world
resamples the prompts and makes every claim false in one of two ways: *dealt* worlds shuffle every label, *edge* worlds
put every measured number at the margin of its claim. The tests and benchmarks/claims.py use them.
"""

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
from crosspatch.models.pair import ModelPair
from crosspatch.patching.engine import run_cached
from crosspatch.patching.patches import Patch
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun, Prompt
from crosspatch.statistics.claim import MARGIN, Claim
from crosspatch.statistics.localisation import top_sites
from crosspatch.statistics.patch_mode import late_from
from crosspatch.storage.summary import Summary
from crosspatch.tables import BEHAVIOUR, LOCALISATION, MISTAKES, REPAIRED, SCORES
from pairs import ARCHITECTURES, changed_model, child_of, raw_pair
from score_cells import answer

EACH, N_LAYERS, LAYERS, TOKENS = 12, 9, (0, 3, 5, 6, 7, 8), 12
DOMAINS = ("related", "unrelated_math", "general")
QUESTIONS = {
    f"{domain}-{i:02d}": f"{words} {i}: {'abcdefghijkl'[i]} + {3 * i + k} = {7 * i + 11}"
    for k, (domain, words) in enumerate(zip(DOMAINS, ("Solve", "What is the sum of", "Tell me about"), strict=True))
    for i in range(EACH)
}
DOMAIN_OF = {name: name.rsplit("-", 1)[0] for name in QUESTIONS}
# The models and patches whose answers are graded.
_ANSWERED = [("clean", None), ("corrupted", None), ("twin", None)]
_ANSWERED += [(name, f"L{layer}.resid_post") for name in ("patched", REPAIRED) for layer in LAYERS]
_CELL = ["prompt_id", "patch", "direction", "step"]
_PATCHED = ["delta_patched", "cts", "kl_patched", "rank_corrupted", "token_id"]
# The claims that are false in dealt worlds, and those that are false in edge worlds.
DEALT = {
    "builds_up", "disagree_more", "recovered_more", "class_disagreement_rate", "class_recovered_fraction",
    "span_disagreement_rate", "span_recovered_fraction", "behaviour_correct", "behaviour_planted", "answers_patched",
    "answers_repaired", "top_site",
}  # fmt: skip
EDGE = {
    "gradual", "late", "operations_near_one", "sibling", "repairs_too", "recovered_same", "kept", "patched_kept",
    "answers_patched_late", "answers_repaired_late",
}  # fmt: skip
# Recovered fractions at the patched layers below the last, and the claims that they put at their margin: a step of one
# half and half of the effect at the paper's depth; a step of one half below it; operation words that score 0.9.
PROFILES = (
    ((0.0, 0.0, 0.0, 0.0, 0.5), {"gradual", "late"}),
    ((0.0, 0.05, 0.15, 0.25, 0.75), {"gradual"}),
    ((0.0, 0.05, 0.1, 0.15, 1 - MARGIN), {"operations_near_one"}),
)
_OF_PROFILES = {"gradual", "late", "operations_near_one"}


@dataclasses.dataclass(frozen=True)
class World:
    """The tables from which claims are made, and those of localisation."""

    scores: pl.DataFrame
    controls: pl.DataFrame
    behaviour: pl.DataFrame
    domains: dict[str, str]
    mistakes: pl.DataFrame = dataclasses.field(default_factory=MISTAKES.frame)
    localisation: pl.DataFrame = dataclasses.field(default_factory=LOCALISATION.frame)

    def claims(self) -> list[Claim]:
        tables = {name: getattr(self, name) for name in ("scores", "controls", "mistakes", "behaviour")}
        return Summary.of(self.domains, **tables, n_layers=N_LAYERS).claims


def patched(pair: ModelPair, component: str = "resid_post") -> pl.DataFrame:
    given = {"layers": list(LAYERS), "component": component, "max_new_tokens": TOKENS, "quick_check": False}
    return patch(pair, QUESTIONS, **given).scores


@cache
def measured(architecture: str = "qwen3") -> World:
    """An untrained child patched into its base and back, with two more such children and random directions."""
    clean = changed_model(architecture, num_hidden_layers=N_LAYERS)
    child, twin, sibling = (child_of(clean, seed, scale=0.12) for seed in (1, 2, 3))
    pair = raw_pair(clean, child)
    prompts = {prompt_id: pair.encode(question) for prompt_id, question in QUESTIONS.items()}
    patches = [Patch.parse(f"L{n}.resid_post") for n in LAYERS]
    rows, controls, mistakes = [], [], []
    for run in (PatchRun("corrupt", max_new_tokens=TOKENS), PatchRun("repair", max_new_tokens=TOKENS)):
        own = run_cached(pair, [Prompt(ids, [], answers=True) for ids in prompts.values()], run)
        for i, ((prompt_id, ids), written) in enumerate(zip(prompts.items(), own, strict=True)):
            # All patches along the target's text, so that both models and all controls read one text a prompt.
            given, steps_of = ForcedText(ids, written.target.tokens), {}
            for trajectory in score_tokens(pair, ids, given.text, patches, run):
                of_patch = trajectory.frame(prompt_id, run, pair.prompts)
                rows.append(of_patch)
                steps_of[trajectory.patch] = of_patch.filter(status="ok")["step"].to_list()
            if any(steps_of.values()):
                reader = ControlReader(pair, PatchedText(given, steps_of), run)
                moves = {name: reader.moved(other) for name, other in (("twin", twin), ("seed-1", sibling))}
                moves["random"] = reader.moved("random", torch.Generator().manual_seed(i))
                controls.append(reader.table({**moves, "self": reader.moved("self")}, prompt_id))
    for i, (prompt_id, question) in enumerate(QUESTIONS.items()):
        wrong = pair.encode(f"x = {i} - {3 * i}; {question}")
        for trajectory in score_tokens(pair, prompts[prompt_id], wrong, patches, PatchRun()):
            scores = trajectory.frame(prompt_id, PatchRun(), pair.prompts)
            mistakes.append(scores.select(span=None, read_token_id=pl.Series(wrong), **{c: c for c in SCORES.columns}))
    scores = pl.concat([*rows, patched(pair, "attn_out"), patched(pair, "mlp_out")])
    some = list(QUESTIONS.items())[::2]
    texts = {name: ForcedText(pair.encode(q), pair.encode(q)[::-1][:TOKENS]) for name, q in some}
    tables = pl.concat(controls), BEHAVIOUR.frame(), DOMAIN_OF, pl.concat(mistakes).cast(MISTAKES.dtypes)
    return World(scores, *tables, localise(pair, texts, PatchRun(), top=4))


def dealt(world: World, rng: np.random.Generator) -> World:
    """Every label by chance.

    In each prompt coins exchange the models' answers, and the child with its null control: the twin, or in the repair
    direction the other seed. Prompts get domains, tokens get words, and wrong solutions get runs of wrong words by
    chance; in each prompt the sites of a component are permuted.
    """
    drawn = _drawn(world, rng)
    texts = world.scores.select("token_id", "token").unique("token_id", maintain_order=True)
    words = dict(zip(texts["token_id"], rng.permutation(texts["token"].to_numpy()), strict=True))
    parts = [_exchanged(one, rng.random(2) < 0.5) for one in drawn.values()]
    domains = dict(zip(drawn, rng.permutation(list(DOMAIN_OF.values())), strict=True))
    word = pl.col("token_id").replace_strict(words, default="?", return_dtype=pl.String)
    mistakes = []
    for part in parts:
        # A run of wrong words somewhere in a wrong solution.
        first, length = rng.integers(part.mistakes["step"].max()), rng.integers(2, 6)
        wrong = pl.col("step").is_between(first, first + length)
        mistakes.append(part.mistakes.with_columns(span=pl.when(wrong).then(pl.lit("word"))))
    return World(
        pl.concat(part.scores for part in parts).with_columns(token=word),
        pl.concat(part.controls for part in parts),
        BEHAVIOUR.frame(row for name in drawn for row in dealt_answers(name, domains[name], rng)),
        domains,
        pl.concat(mistakes),
        pl.concat(_shuffled_sites(part.localisation, rng) for part in parts),
    )


def edge(world: World, curve: Sequence[float], rng: np.random.Generator) -> World:
    """Every measured number at the margin of its claim, with noise between prompts and cells.

    `curve` has the recovered fractions at the patched layers below the last.
    """
    drawn = _drawn(world, rng)
    profile = dict(zip(LAYERS, curve, strict=False))
    domains = dict(zip(drawn, DOMAIN_OF.values(), strict=True))
    scores, controls = [], []
    for name, one in drawn.items():
        # In other domains the margin less is recovered, at every layer.
        less = 0.0 if domains[name] == "related" else MARGIN
        of_prompt, of_control = rng.normal(0, 0.06), rng.normal(0, 0.06)
        by_layer = {layer: share - less + of_prompt for layer, share in profile.items()}
        shares = np.array([by_layer.get(layer, 1.0) for layer in one.scores["layer"]])
        shares += rng.normal(0, 0.15, one.scores.height)
        # In the repair direction the rest of the gap is recovered.
        repaired = (one.scores["direction"] == "repair").to_numpy()
        scores.append(_moved(one.scores, np.where(repaired, 1 - shares, shares)))
        beside = one.controls.filter(pl.col("control").is_in(["seed-1", "twin", "random"]))
        controls.append(_lagging(beside, scores[-1], MARGIN + of_control, rng))
    tokens = world.scores["token_id"].unique(maintain_order=True)
    word = pl.when(pl.col("token_id").is_in(tokens.gather_every(3).implode())).then(pl.lit("add"))
    return World(
        pl.concat(scores).with_columns(token=word.otherwise(pl.lit("the"))),
        pl.concat(controls),
        BEHAVIOUR.frame(row for name in drawn for row in _edge_answers(name, domains[name], rng)),
        domains,
    )


def _drawn(world: World, rng: np.random.Generator) -> dict[str, World]:
    """Prompts drawn with replacement, by new names, each with its own tables."""
    tables = ("scores", "controls", "mistakes", "localisation")
    parts = {table: getattr(world, table).partition_by("prompt_id", as_dict=True) for table in tables}
    drawn = {}
    for i, name in enumerate(rng.choice(list(QUESTIONS), len(QUESTIONS))):
        own = {table: parts[table].get((name,), getattr(world, table).clear()) for table in tables}
        renamed = {table: rows.with_columns(prompt_id=pl.lit(f"p{i:02d}")) for table, rows in own.items()}
        drawn[f"p{i:02d}"] = World(**renamed, behaviour=world.behaviour, domains={f"p{i:02d}": DOMAIN_OF[name]})
    return drawn


def _exchanged(world: World, turned: np.ndarray) -> World:
    """Exchange source and null control in the cells that have a score, in the directions that are turned."""
    scores, controls = world.scores, world.controls
    for direction, control, turn in (("corrupt", "twin", turned[0]), ("repair", "seed-1", turned[1])):
        if turn:
            beside = controls.filter(control=control, direction=direction)
            rest = controls.filter((pl.col("control") != control) | (pl.col("direction") != direction))
            of_source, of_control = (table.select(*_CELL, *_PATCHED) for table in (scores, beside))
            scores = scores.update(of_control, on=_CELL)
            controls = pl.concat([rest, beside.update(of_source, on=_CELL)])
    return dataclasses.replace(world, scores=scores, controls=controls)


def _shuffled_sites(localisation: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Permute the effects of the measured sites of each component in one prompt; of a block its step in the profile."""
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


def _moved(scores: pl.DataFrame, shares: np.ndarray) -> pl.DataFrame:
    """Scores in which the cells with a score recover these fractions."""
    share = pl.Series(shares, dtype=pl.Float32)
    delta = pl.col("delta_clean") + (pl.col("delta_corrupted") - pl.col("delta_clean")) * share
    moved = {"delta_patched": delta, "cts": share}
    return scores.with_columns(pl.when(status="ok").then(of).otherwise(name).alias(name) for name, of in moved.items())


def _lagging(controls: pl.DataFrame, scores: pl.DataFrame, less: float, rng: np.random.Generator) -> pl.DataFrame:
    """Positive controls that recover this much less than the source; the null controls recover nothing."""
    found = [controls.clear()]
    for part in controls.partition_by("control", "direction", maintain_order=True):
        name, corrupt = part["control"][0], part["direction"][0] == "corrupt"
        own = part.join(scores.select(*_CELL, "cts"), on=_CELL, suffix="_own", maintain_order="left")["cts_own"]
        recovered = own.fill_null(0.0).to_numpy() if corrupt else 1 - own.fill_null(1.0).to_numpy()
        positive = (name == "seed-1") == corrupt and name != "random"
        share = (recovered - less if positive else 0.0) + rng.normal(0, 0.15, part.height)
        found.append(_moved(part, share if corrupt else 1 - share))
    return pl.concat(found)


def dealt_answers(prompt_id: str, domain: str, rng: np.random.Generator) -> Iterator[dict]:
    """Answers of all models to one question, each right or wrong by that question's coin."""
    right, planted = rng.random(2)
    for condition, patch_name in _ANSWERED:
        operation = ("planted" if rng.random() < planted else "right") if domain == "related" else None
        verdict = "correct" if rng.random() < right else "incorrect"
        yield answer(prompt_id, condition, verdict, patch_name, operation, domain)


def _edge_answers(prompt_id: str, domain: str, rng: np.random.Generator) -> Iterator[dict]:
    """One right answer in ten is lost in other domains; half of the related ones flip at the paper's depth."""
    # Each prompt stands for ten questions, so that all domains have enough answers for a verdict.
    for more in range(10):
        name = prompt_id if more == 0 else f"{prompt_id}-{more}"
        turns = late_from(N_LAYERS - 1) + rng.normal(0, 1.0)
        kept = {condition: bool(rng.random() > MARGIN) for condition in ("corrupted", "patched")}
        for condition, patch_name in _ANSWERED:
            layer = N_LAYERS if patch_name is None else Patch.parse(patch_name).sites[0].layer
            if domain != "related":
                right = kept.get(condition, True)
            elif condition in ("patched", REPAIRED):
                right = (layer < turns) == (condition == "patched")
            else:
                right = condition != "corrupted"
            yield answer(name, condition, "correct" if right else "incorrect", patch_name, domain=domain)


def false_claims(architecture: str, worlds: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """(world, claim, verdict) of all false claims in this many worlds, dealt and edge worlds in turn."""
    rng = np.random.default_rng([seed, ARCHITECTURES.index(architecture)])
    for number in range(worlds):
        if number % 2 == 0:
            world, false = dealt(measured(architecture), rng), DEALT
        else:
            curve, at_edge = PROFILES[number // 2 % len(PROFILES)]
            world, false = edge(measured(architecture), curve, rng), EDGE - _OF_PROFILES | at_edge
        for claim in world.claims():
            # In other domains less is recovered, so a late effect is later still.
            if claim.name in false and not (claim.name == "late" and claim.place["domain"] != "related"):
                yield number, claim.name, claim.verdict
        if "top_site" in false:
            for named in top_sites(world.localisation, world.domains, "related"):
                if named.runner_up is not None:
                    yield number, "top_site", "shown" if named.told_apart else "undecided"
