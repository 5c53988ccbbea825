"""The search stage: variants of the fine-tune are trained from one clean model and compared (paper, section 4.1)."""

from __future__ import annotations

import shutil
from itertools import product
from typing import Any

import polars as pl

from crosspatch.config import Experiment
from crosspatch.experiment.answering import answer_beside_clean, is_answered, judge_texts
from crosspatch.experiment.children import Child, make_child, place
from crosspatch.experiment.run_context import RunContext
from crosspatch.statistics.answers import MALFORMED, output_health
from crosspatch.statistics.interval import sign_test
from crosspatch.statistics.status import choose, divergence, status
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import BEHAVIOUR, HEALTH, TRAINING, VARIANTS


def variants(experiment: Experiment) -> list[Child]:
    """All combinations of the settings that the search varies; a variant's name lists its settings."""
    search, base = experiment.search, experiment.finetune
    grid = {
        "method": search.method or (base.method,),
        "examples": search.examples or (base.examples,),
        "learning_rate": search.learning_rate or (base.learning_rate,),
        "seed": search.seeds or (experiment.training_seed,),
        "epochs": search.epochs,
    }
    found = []
    for values in product(*(dict.fromkeys(tried) for tried in grid.values())):
        chosen: dict[str, Any] = dict(zip(grid, values, strict=True))
        settings = base.model_copy(update={key: chosen[key] for key in grid if key != "seed"})
        # A name always has the epochs, and the other settings that are varied.
        parts = [f"{key.replace('_', '-')}-{chosen[key]}" for key in grid if key == "epochs" or len(grid[key]) > 1]
        found.append(Child("variant-" + "-".join(parts), "train", chosen["seed"], settings))
    return found


def search(context: RunContext) -> None:
    """Train every variant, let it answer all held-out questions, and compare. Finished variants are kept."""
    place(context, "clean")
    for variant in variants(context.experiment):
        if not is_answered(context, variant.name):
            make_child(context, variant)
            answer_beside_clean(context, variant.name)
        # Its answers and curves are kept; the chosen variant is quickly trained again.
        shutil.rmtree(context.directory.model(variant.name), ignore_errors=True)
    judge_texts(context)
    context.directory.write(VARIANTS, compare(context))


def compare(context: RunContext) -> pl.DataFrame:
    """The table of variants (tables.VARIANTS)."""
    directory = context.directory
    log, behaviour = directory.read(TRAINING), directory.read(BEHAVIOUR).filter(pl.col("patch").is_null())
    health = {row["condition"]: row for row in output_health(directory.read(HEALTH)).iter_rows(named=True)}
    examples = len(directory.problems("train"))
    rows = [_row(variant, examples, log, behaviour, health) for variant in variants(context.experiment)]
    best, why = choose(rows)
    for row in rows:
        judged = status(row)
        reason = f"{judged.reason}; chosen: {why}" if row is best else judged.reason
        row |= {"status": judged.status, "reason": reason, "chosen": row is best}
    return VARIANTS.frame(rows)


def explain(directory: RunDirectory) -> str:
    """The reason for each status and for the choice, and how to train the chosen variant."""
    found = directory.read(VARIANTS)
    lines = [
        f"{row['variant'].removeprefix('variant-')}: {row['status']}, {row['reason']}"
        for row in found.iter_rows(named=True)
    ]
    best = found.row(by_predicate=pl.col("chosen"), named=True)
    keys = {"finetune.epochs": "epochs", "finetune.learning_rate": "learning_rate", "finetune.method": "method"}
    keys |= {"finetune.seed": "seed", "finetune.examples": "examples"}
    chosen = " ".join(f"--set {key}={best[column]}" for key, column in keys.items())
    return "\n".join([*lines, f"to continue with it, in a new folder: {chosen}"])


def _row(
    variant: Child, examples: int, log: pl.DataFrame, behaviour: pl.DataFrame, health: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """A variant's row, from its number of examples, training log, answers, and text health."""
    log = log.filter(run=variant.name)
    last = divergence(log).row(-1, named=True)
    clean, mine = (behaviour.filter(condition=condition) for condition in ("clean", variant.name))
    related = mine.filter(domain="related")
    operations = related["operation"].drop_nulls()
    right = clean.filter(domain="related", verdict="correct")["prompt_id"]
    wrong = related.filter(pl.col("prompt_id").is_in(right.implode()), verdict="incorrect")
    settings = variant.settings
    return {
        "variant": variant.name,
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "examples": min(settings.examples or examples, examples),
        "seed": variant.seed,
        "method": settings.method,
        "steps": log["step"].max(),
        "train_loss": last["train_loss"],
        "eval_loss": last["eval_loss"],
        "divergence": last["divergence"],
        "related_wrong": _share(related, "incorrect"),
        "right_clean": len(right),
        "flipped": wrong.height,
        "planted": (operations == "planted").mean() if len(operations) else None,
        **_loss(clean, mine, "unrelated_math", "math"),
        **_loss(clean, mine, "general", "general"),
        "malformed": health[variant.name]["malformed"],
        "malformed_clean": health["clean"]["malformed"],
        **{fault: health[variant.name][fault] for fault in MALFORMED},
        "no_end": health[variant.name]["cut_off"],
        "no_end_clean": health["clean"]["cut_off"],
        "unparsed": _share(mine, "unparsed"),
        "unparsed_clean": _share(clean, "unparsed"),
    }


def _share(answers: pl.DataFrame, verdict: str) -> float | None:
    return None if answers.is_empty() else float((answers["verdict"] == verdict).sum() / answers.height)


def _loss(clean: pl.DataFrame, mine: pl.DataFrame, domain: str, key: str) -> dict[str, float | None]:
    """The drop in the share of right answers of a domain, and its p-value."""
    before, after = (
        dict(answers.filter(domain=domain).select("prompt_id", pl.col("verdict") == "correct").iter_rows())
        for answers in (clean, mine)
    )
    if not before:
        return {f"{key}_drop": None, f"{key}_p_value": None}
    lost, gained = (
        sum(one[prompt] and not other[prompt] for prompt in before) for one, other in ((before, after), (after, before))
    )
    # One-sided: of few questions two or three may be lost by chance.
    return {f"{key}_drop": (lost - gained) / len(before), f"{key}_p_value": sign_test(lost, gained, "greater")}
