"""What a notebook shows of a run: how far it has come, its models, its claims, and where the report is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from crosspatch.card import Card, Table
from crosspatch.frames import CLAIMS
from crosspatch.results.claim import claims_table, counted
from crosspatch.results.domain import domain_title
from crosspatch.results.localisation import EXTENTS, most_telling
from crosspatch.results.variant import variants

if TYPE_CHECKING:
    from crosspatch.results.run import RunDirectory

# Places that are named without being asked for.
MOST = 8


def run_card(run: RunDirectory) -> Card:
    """Stages with their times, models with their fingerprints, claims, the places that localisation names."""
    record = run.read()
    models = [
        (name, str(facts.get("name") or "unknown"), str(facts.get("fingerprint") or "not loaded yet"))
        for name, facts in record["models"].items()
    ]
    parts = [Table(("model", "from", "fingerprint"), models)] if models else []
    said = list(told_places(run))
    if said:
        fold = f"{len(said)} places that carry most" if len(said) > MOST else ""
        parts.append(Table(("localised", "direction", "patched", "what carries most"), said, fold=fold))
    claims = run.statistics(CLAIMS).to_dicts()
    if claims:
        parts.append(claims_table(claims, fold=f"Claims: {counted(row['verdict'] for row in claims)}"))
    report = str(run.report) if run.report.is_file() else f"not made yet: crosspatch report {run.root}"
    facts = [("folder", str(run.root)), *_stages(record["stages"]), ("report", report)]
    return Card(f"Run: {record['settings'].get('name', 'without a name')}", facts, parts, list(_hints(run)))


def told_places(run: RunDirectory) -> Iterator[tuple[str, str, str, str]]:
    """Domain, direction and extent as headings, and a sentence for each component whose places were localised."""
    measured = run.localisation()
    if measured.is_empty():
        return
    domains = run.domains()
    of_prompts = {
        (domains[prompt_id], direction, extent): None
        for prompt_id, direction, extent in measured.select("prompt_id", "direction", "extent")
        .unique(maintain_order=True)
        .iter_rows()
    }
    for domain, direction, extent in of_prompts:
        for named in most_telling(measured, domains, domain, direction, extent=extent, seed=run.seed):
            yield domain_title(domain), direction, EXTENTS[extent], named.sentence


def _stages(stages: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is done on one line; whatever is not, a line each."""
    done = [f"{name} {stage['seconds']:,.0f} s" for name, stage in stages.items() if stage["state"] == "done"]
    yield "done", ", ".join(done) or "no stage yet"
    for name, stage in stages.items():
        if stage["state"] != "done":
            reason = f": {stage['error']}" if "error" in stage else ""
            yield str(stage["state"]), f"{name}, after {stage['seconds']:,.0f} s{reason}"


def _hints(run: RunDirectory) -> Iterator[str]:
    """How to go on with what is there."""
    if any((run.root / "scores").glob("part-*.parquet")):
        yield "run.scores(), run.generations(), run.behaviour(), run.controls()"
        found = variants(run.scores())
        which = "run" if len(found) == 1 else f"run, variant=crosspatch.{found[0]!r}" if found else None
        if which:
            yield f"crosspatch.heatmap({which})"
            yield f"crosspatch.depth_chart({which})"
        yield "crosspatch.Summary.of_run(run)"
    if any((run.root / "localisation").glob("part-*.parquet")):
        yield "crosspatch.head_map(run), crosspatch.Summary.of_run(run).places"
