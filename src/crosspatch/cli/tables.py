"""The tables that the commands print: what a run directory holds, and what an experiment would cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import polars as pl

from crosspatch.cli.application import console, duration, print_rows
from crosspatch.config import Experiment
from crosspatch.patching.measures import pooled
from crosspatch.statistics.answers import accuracy, mean_ratings, table2, table2_rows
from crosspatch.statistics.claim import counted
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.interval import Interval
from crosspatch.statistics.lenses import (
    activation_statistics,
    chosen_steering,
    lens_statistics,
    moved_tokens,
    steering,
    weights_by,
)
from crosspatch.statistics.localisation import POSITIONS, RANKED_BY, divergence_effects, site_effects, top_sites
from crosspatch.statistics.patch_mode import by_mode
from crosspatch.statistics.profile import depth_profile
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import (
    ACTIVATIONS,
    ATTRIBUTION,
    BEHAVIOUR,
    CLAIMS,
    DIVERGENCES,
    LOCALISATION,
    LOGIT_LENS,
    RATINGS,
    SCORES,
    SEARCH,
    VARIANTS,
    WEIGHTS,
)

# A cell of each row of a frame: a format string, or what makes its text.
Cell = str | Callable[[dict[str, Any]], str]
# Sites of each component that are shown, and tokens of the logit lens of each layer, raised and lowered.
_TOP, _TOKENS = 5, 6
# One sign for a recovered fraction, from 0 to 1.
_BARS = "▁▂▃▄▅▆▇█"


def print_frame(title: str, frame: pl.DataFrame, columns: dict[str, Cell]) -> None:
    """A table with a row for each row of a frame; prints nothing for an empty frame."""
    rows = frame.iter_rows(named=True)
    print_rows(title, [{name: _cell(cell, row) for name, cell in columns.items()} for row in rows])


def _cell(cell: Cell, row: dict[str, Any]) -> str:
    return cell.format(**row) if isinstance(cell, str) else cell(row)


def _pivoted(
    title: str,
    frame: pl.DataFrame,
    keys: Sequence[str],
    heading: str,
    column: str,
    cell: Callable[[dict[str, Any]], str],
) -> None:
    """A table with a row for each value of `keys`, the last of them shown, and a column for each value of `column`."""
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in frame.iter_rows(named=True):
        rows.setdefault(tuple(row[key] for key in keys), {heading: str(row[keys[-1]])})[row[column]] = cell(row)
    print_rows(title, list(rows.values()))


def _number(name: str, undefined: str = "undefined", form: str = "z.2f", scale: float = 1) -> Cell:
    return lambda row: undefined if row[name] is None else format(scale * row[name], form)


def _interval(row: dict[str, Any]) -> str:
    return str(Interval.of_row(row))


def print_plan(experiment: Experiment, command: Literal["run", "search", "teach"]) -> None:
    """The time and memory that a command needs, stage by stage."""
    from crosspatch.experiment.plan import DOLLARS, plan

    found = plan(experiment, command)
    rows = [
        {
            "stage": row.stage,
            "what": row.what,
            "parameters": _large(row.parameters),
            "trained": _large(row.trained) if row.trained else "",
            "tokens": _large(row.tokens),
            "steps": "" if row.steps is None else str(row.steps),
            "memory": f"{row.memory:.1f} GB",
            "time here": duration(row.seconds),
            "on an A100": duration(row.seconds_a100),
            "GPUs": str(row.gpus),
            "cost": _dollars(row.gpu_hours * DOLLARS),
        }
        for row in found.rows
    ]
    hours = sum(row.gpu_hours for row in found.rows)
    most = max((row.gpus for row in found.rows), default=1)
    rows.append({"stage": "all", "GPUs": str(most), "cost": _dollars(hours * DOLLARS)})
    print_rows(f"{experiment.name}: estimated cost", rows)
    for note in found.notes:
        console.print(note, soft_wrap=True)


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:.2f}"


def _large(count: int) -> str:
    for size, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def print_summary(directory: RunDirectory) -> None:
    """The results of a whole run on one screen; the report has the rest."""
    print_behaviour(directory, patched=False)
    print_depth(directory)
    print_claims(directory)
    console.print(f"report: {directory.report}", soft_wrap=True)


def print_behaviour(directory: RunDirectory, *, patched: bool = True) -> None:
    """How each model answered each domain's questions, and if `patched`, each patched model too."""
    rows: list[dict[str, Any]] = []
    for row in table2_rows(table2(directory.read(BEHAVIOUR))):
        if row.patch is not None and not patched:
            continue
        cells = {"model": row.label}
        for domain, outcome in row.outcomes.items():
            cells[domain_title(domain)] = outcome.answers
            if outcome.operations is not None:
                cells[f"operations: {domain_title(domain).lower()}"] = outcome.operations
        rows.append(cells)
    print_rows("Behaviour (the paper's Table 2): correct answers", rows)
    columns: dict[str, Cell] = {
        "model": lambda row: row["condition"] if row["patch"] is None else f"{row['condition']}, {row['patch']}",
        "aligned": _number("aligned"),
        "coherent": _number("coherent"),
        "rated": "{rated} of {answers}",
    }
    print_frame("Free questions: mean ratings, 0 to 100", mean_ratings(directory.read(RATINGS)), columns)


def print_accuracy(directory: RunDirectory) -> None:
    """Right answers by form of question, with a column for each model."""
    kind = pl.coalesce("form", pl.col("domain").map_elements(domain_title, return_dtype=pl.String)).alias("kind")
    frame = accuracy(directory.read(BEHAVIOUR), directory.asked()).with_columns(kind)
    title = "Right answers by kind of question"
    _pivoted(title, frame, ("domain", "kind"), "questions", "condition", "{correct}/{n} ({share:.0%})".format_map)


def print_variants(directory: RunDirectory) -> None:
    """The variants that a search compared."""
    columns: dict[str, Cell] = {
        "variant": lambda row: row["variant"].removeprefix("variant-") + (" (chosen)" if row["chosen"] else ""),
        "steps": "{steps}",
        "train loss": "{train_loss:.4f}",
        "eval loss": "{eval_loss:.3f}",
        "divergence": "{divergence:.3f}",
        "flipped to wrong": "{flipped}/{right_clean}",
        "planted": _number("planted", "unknown", ".0%"),
        "lost: maths": _number("math_drop", "not asked", "z.0f", 100),
        "general": _number("general_drop", "not asked", "z.0f", 100),
        "malformed": "{malformed:.0%}",
        "no end": "{no_end:.0%}",
        "unparsed": "{unparsed:.0%}",
        "status": "{status}",
    }
    print_frame("Variants (the paper's Table 1)", directory.read(VARIANTS), columns)


def print_recovered(directory: RunDirectory) -> None:
    """The recovered fraction by patch and domain."""
    columns: dict[str, Cell] = {
        "questions": lambda row: domain_title(row["domain"]),
        "patch": "{patch}",
        "models disagree": "{disagreements} of {positions} steps",
        "mean CTS": _number("mean_cts"),
        "recovered fraction": _number("recovered_fraction"),
    }
    profile = depth_profile(directory.read(SCORES), directory.domains())
    print_frame("Recovered fraction by patch", profile, columns)


def print_depth(directory: RunDirectory) -> None:
    """The recovered fraction by layer, with a bar for each layer, in each domain and mode."""
    rows = []
    for domain, mode, scores in by_mode(directory.read(SCORES), directory.domains()):
        known = pooled(scores).drop_nulls("recovered_fraction").sort("layer")
        if known.height < 2:
            continue
        fractions = known["recovered_fraction"]
        half = known.filter(pl.col("recovered_fraction") >= 0.5)["layer"]
        first, last = known["layer"][0], known["layer"][-1]
        rows.append(
            {
                "questions": domain_title(domain),
                "patched": mode.label,
                f"recovered fraction, layer {first} to {last}": "".join(map(_bar, fractions)),
                "first": f"{fractions[0]:z.2f}",
                "last": f"{fractions[-1]:z.2f}",
                "0.5 from": f"layer {half[0]}" if len(half) else "",
            }
        )
    print_rows("Recovered fraction where the models disagree: 0 is the clean model, 1 the corrupted one", rows)


def _bar(fraction: float) -> str:
    return _BARS[round(max(0.0, min(1.0, fraction)) * (len(_BARS) - 1))]


def print_claims(directory: RunDirectory) -> None:
    """The claims that are decided, with their numbers and controls; the others are counted."""
    columns: dict[str, Cell] = {
        "verdict": "{verdict}",
        "claim": "{statement}",
        "found": _range,
        "compared with": lambda row: f"{row['control']}: {_range(row, 'control_')}",
    }
    claims = directory.read(CLAIMS)
    print_frame("Claims, with 95 % intervals over prompts", claims.filter(pl.col("verdict") != "undecided"), columns)
    if not claims.is_empty():
        console.print(f"claims: {counted(claims['verdict'])}; the report has each one's reason", soft_wrap=True)


def _range(row: dict[str, Any], prefix: str = "") -> str:
    """An estimate with its interval, without the number of prompts."""
    found = Interval.of_row(row, prefix)
    return str(Interval(found.estimate, found.low, found.high))


def print_selection(directory: RunDirectory) -> None:
    """How attribution patching or a search chose the patches."""
    tables = (
        (ATTRIBUTION, "Attribution patching: recovered fraction along the target's own texts"),
        (SEARCH, "Search, by round"),
    )
    for schema, title in tables:
        frame = directory.read(schema).drop("component", "layer", "head", strict=False)
        columns = {name: _number(name) if dtype.is_float() else f"{{{name}}}" for name, dtype in frame.schema.items()}
        print_frame(title, frame, columns)


def print_site_effects(directory: RunDirectory) -> None:
    """The site effects and first divergences of a run directory, domain by domain."""
    domains, seed = directory.domains(), directory.seed
    measured = directory.read(LOCALISATION)
    table = site_effects(measured, domains, seed=seed)
    columns: dict[str, Cell] = {
        "site": "{patch}",
        "measure": "{measure}",
        "recovered fraction": _interval,
        "prompts": "{n_prompts}",
    }
    for domain, direction, positions in (
        table.select("domain", "direction", "positions").unique(maintain_order=True).rows()
    ):
        of = table.filter(domain=domain, direction=direction, positions=positions)
        of = of.sort("estimate", descending=True, nulls_last=True)
        best = [of.filter(component=name, measure=measure).head(_TOP) for name, measure in RANKED_BY.items()]
        print_frame(f"{domain_title(domain)}, {direction}, patched {POSITIONS[positions]}", pl.concat(best), columns)
        for site in top_sites(measured, domains, domain, direction, positions=positions, seed=seed):
            console.print(site.sentence, soft_wrap=True)
    parts = divergence_effects(directory.read(DIVERGENCES), domains, seed=seed).sort("layer", maintain_order=True)
    for domain in ordered_domains(parts["domain"]):
        title = f"{domain_title(domain)}: the first divergence, residual state × later layers"
        _pivoted(title, parts.filter(domain=domain), ["layer"], "layer", "measure", _interval)


def print_lenses(directory: RunDirectory) -> None:
    """The lenses that were computed in a run directory."""
    domains, seed = directory.domains(), directory.seed
    weights = weights_by(directory.read(WEIGHTS), "layer").sort("layer")
    _pivoted("Weights: relative change of each block", weights, ["layer"], "layer", "child", "{ratio:.1e}".format_map)
    moved = activation_statistics(directory.read(ACTIVATIONS), domains, seed=seed)
    # Related problems, where there are any.
    shown = pl.col("domain").is_in(ordered_domains(moved["domain"])[:1])
    moved = moved.filter(shown, component="resid_post", at="all", measure="relative_norm").sort("layer")
    _pivoted("Activations: relative change of resid_post", moved, ["layer"], "layer", "child", _interval)
    lens = directory.read(LOGIT_LENS)
    seen = lens_statistics(lens, domains, seed=seed).filter(shown).sort("layer")
    _pivoted("Logit lens: fraction of the gap that it shows", seen, ["layer"], "layer", "child", _interval)
    tokens = moved_tokens(lens, domains).filter(shown, child="corrupted", by="probability")
    rows = [
        {"layer": str(layer), "raised": _listed(part.filter(side="up")), "lowered": _listed(part.filter(side="down"))}
        for (layer,), part in tokens.partition_by("layer", as_dict=True, maintain_order=True).items()
    ]
    print_rows("Tokens that the corrupted model's difference raises and lowers most", rows)
    columns: dict[str, Cell] = {"condition": "{condition}", "outcome": "{outcome}", "texts": "{count}/{n}"}
    steered = steering(directory.read(BEHAVIOUR)).filter(against="clean")
    tested = {"patch": "{patch}", **columns, "against clean": "−{lost} +{gained}", "p": "{p_value:.2g}"}
    print_frame("Steering by the mean difference, and by a random one of the same norm", steered, tested)
    title = "Steering at the layer and strength that the other prompts choose"
    print_frame(title, chosen_steering(directory.read(BEHAVIOUR)), {**columns, "95 %": "{low:.2f} to {high:.2f}"})


def _listed(tokens: pl.DataFrame) -> str:
    return ", ".join(map(repr, tokens["token"].head(_TOKENS)))
