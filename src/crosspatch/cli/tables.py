"""What the commands print: tables of what a run directory holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from crosspatch.cli.application import console
from crosspatch.config import Experiment

if TYPE_CHECKING:
    from crosspatch.storage.run import RunDirectory


def print_plan(experiment: Experiment, command: Literal["run", "search", "teach"] = "run") -> None:
    """What a command would take, stage by stage."""
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
    print_rows(f"{experiment.name}: what it would take", rows)
    for note in found.notes:
        console.print(note, soft_wrap=True)


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:.2f}"


def _large(count: int) -> str:
    for size, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {name}"
    return f"{seconds:.2g} s"


def print_summary(directory: RunDirectory) -> None:
    """What a whole run came to."""
    stages = directory.record()["stages"]
    times = Table("stage", "state", "time", title="Stages", title_justify="left")
    for name, stage in stages.items():
        times.add_row(name, stage["state"], f"{stage['seconds']:.0f} s")
    console.print(times)
    print_behaviour(directory)
    print_accuracy(directory)
    print_recovered(directory)
    print_claims(directory)
    console.print(f"report: {directory.report}", soft_wrap=True)


def print_behaviour(directory: RunDirectory) -> None:
    """How each model answered each domain's questions."""
    from crosspatch.statistics.answers import mean_ratings, table2, table2_rows
    from crosspatch.statistics.domain import domain_title
    from crosspatch.tables import BEHAVIOUR, RATINGS

    rows: list[dict[str, Any]] = []
    for row in table2_rows(table2(directory.read(BEHAVIOUR))):
        cells = {"model": row.label}
        for domain, outcome in row.outcomes.items():
            cells[domain_title(domain)] = outcome.answers
            if outcome.operations is not None:
                cells[f"operations: {domain_title(domain).lower()}"] = outcome.operations
        rows.append(cells)
    print_rows("Behaviour (the paper's Table 2): correct answers", rows)
    rated = [
        {
            "model": row["condition"] if row["patch"] is None else f"{row['condition']}, {row['patch']}",
            "aligned": _number(row["aligned"]),
            "coherent": _number(row["coherent"]),
            "rated": f"{row['rated']} of {row['answers']}",
        }
        for row in mean_ratings(directory.read(RATINGS)).iter_rows(named=True)
    ]
    print_rows("Free questions: mean ratings, 0 to 100", rated)


def print_accuracy(directory: RunDirectory) -> None:
    """Right answers by form of question, a column a model."""
    from crosspatch.statistics.answers import accuracy
    from crosspatch.statistics.domain import domain_title
    from crosspatch.tables import BEHAVIOUR

    rows: dict[tuple[str, str | None], dict[str, str]] = {}
    for row in accuracy(directory.read(BEHAVIOUR), directory.asked()).iter_rows(named=True):
        line = rows.setdefault((row["domain"], row["form"]), {"questions": row["form"] or domain_title(row["domain"])})
        line[row["condition"]] = f"{row['correct']}/{row['n']} ({row['share']:.0%})"
    print_rows("Right answers by kind of question", list(rows.values()))


def print_variants(directory: RunDirectory) -> None:
    """What a search found."""
    from crosspatch.tables import VARIANTS

    rows = [
        {
            "variant": row["variant"].removeprefix("variant-") + (" (chosen)" if row["chosen"] else ""),
            "steps": str(row["steps"]),
            "train loss": f"{row['train_loss']:.4f}",
            "eval loss": f"{row['eval_loss']:.3f}",
            "divergence": f"{row['divergence']:.3f}",
            "flipped to wrong": f"{row['flipped']}/{row['right_clean']}",
            "planted": _percent(row["planted"]),
            "lost: maths": _points(row["math_drop"]),
            "general": _points(row["general_drop"]),
            "malformed": _percent(row["malformed"]),
            "no end": _percent(row["no_end"]),
            "unread": _percent(row["unparsed"]),
            "status": row["status"],
        }
        for row in directory.read(VARIANTS).iter_rows(named=True)
    ]
    print_rows("Variants (the paper's Table 1)", rows)


def _percent(share: float | None) -> str:
    return "untold" if share is None else f"{share:.0%}"


def _points(drop: float | None) -> str:
    return "not asked" if drop is None else f"{100 * drop:z.0f}"


def print_recovered(directory: RunDirectory) -> None:
    """Recovered fraction by patch and domain."""
    from crosspatch.statistics.domain import domain_title
    from crosspatch.statistics.profile import depth_profile
    from crosspatch.tables import SCORES

    domains = directory.domains()
    rows = [
        {
            "questions": domain_title(row["domain"]),
            "patch": row["patch"],
            "models disagree": f"{row['disagreements']} of {row['positions']} steps",
            "mean CTS": _number(row["mean_cts"]),
            "recovered fraction": _number(row["recovered_fraction"]),
        }
        for row in depth_profile(directory.read(SCORES), domains).iter_rows(named=True)
    ]
    print_rows("Recovered fraction by patch", rows)


def print_claims(directory: RunDirectory) -> None:
    """Each claim with its numbers, its control and its verdict."""
    from crosspatch.statistics.claim import difference
    from crosspatch.statistics.interval import Interval
    from crosspatch.tables import CLAIMS

    rows = []
    for row in directory.read(CLAIMS).iter_rows(named=True):
        own, control = (str(Interval.of_row(row, prefix)) for prefix in ("", "control_"))
        test = "" if row["p_value"] is None else f"{row['p_value']:.2g}"
        verdict = row["verdict"] if row["reason"] is None else f"{row['verdict']}: {row['reason']}"
        rows.append(
            {
                "claim": row["statement"],
                "found": own,
                "compared with": f"{row['control']}: {control}",
                "difference": difference(row),
                "p": test,
                "verdict": verdict,
            }
        )
    print_rows("Claims, with 95 % intervals over prompts (n_eff: effective number of prompts)", rows)


def print_selection(directory: RunDirectory) -> None:
    """Why the patches were chosen, where attribution patching or a search chose them."""
    from crosspatch.tables import ATTRIBUTION, SEARCH

    for schema, title in (
        (ATTRIBUTION, "Attribution patching: recovered fraction along the target's own texts"),
        (SEARCH, "Search, by round"),
    ):
        rows = [
            {column: _number(value) if isinstance(value, float) else str(value) for column, value in row.items()}
            for row in directory.read(schema).drop("component", "layer", "head", strict=False).iter_rows(named=True)
        ]
        print_rows(title, rows)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:z.2f}"


def print_rows(title: str, rows: list[dict[str, str]]) -> None:
    """A table whose columns are all keys, in the order in which they come up; nothing where there is no row."""
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    console.print(table)
