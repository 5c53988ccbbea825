"""The localise stage: what it leaves, in both directions, and that a stopped one goes on."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.experiment import ExperimentRun
from crosspatch.experiment import localising as stage
from crosspatch.settings_io import load_experiment
from crosspatch.statistics.localisation import site_effects, top_sites
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import DIVERGENCES, LOCALISATION

SMALL = [
    *("data.related=3", "data.unrelated_math=1", "data.general=1", "patch.related=1", "generation.max_new_tokens=8"),
    "localise.top=2",
]


def run_of(out, *settings, first=("evaluate",)) -> RunDirectory:
    run = ExperimentRun.start(load_experiment("tiny", [*SMALL, *settings]), out)
    run.run(*first)
    stage.localise(run.context)
    return run.directory


@pytest.fixture(scope="module")
def finished(made_once):
    return RunDirectory(made_once("localising", lambda out: run_of(out, "patch.direction=both")))


def test_every_prompt_of_every_domain_is_localised_in_both_directions(finished):
    found = finished.read(LOCALISATION)
    assert dict(found.schema) == pl.Schema(LOCALISATION.dtypes)
    domains = {problem.id: problem.domain for problem in finished.asked().values()}
    assert set(domains.values()) == {"related", "unrelated_math", "general"}
    assert set(found["prompt_id"]) == set(domains)
    assert found.group_by("direction", "positions").len()["len"].n_unique() == 1
    assert set(found.select("direction", "positions").unique().rows()) == {
        (direction, positions) for direction in ("corrupt", "repair") for positions in ("current", "all")
    }


def test_the_same_heads_are_measured_after_all_prompts_of_a_domain(finished):
    domains = {problem.id: problem.domain for problem in finished.asked().values()}
    measured = finished.read(LOCALISATION).filter(
        pl.col("patched").is_not_null(), component="head", direction="corrupt"
    )
    of_domain: dict[str, set[frozenset[str]]] = {}
    for (prompt,), part in measured.partition_by("prompt_id", as_dict=True).items():
        of_domain.setdefault(domains[prompt], set()).add(frozenset(part["patch"]))
    assert all(len(chosen) == 1 for chosen in of_domain.values())
    # Two for each of the positions, some of them the same.
    assert all(2 <= len(next(iter(chosen))) <= 4 for chosen in of_domain.values())


def test_it_can_be_read_as_places(finished):
    domains = {problem.id: problem.domain for problem in finished.asked().values()}
    table = site_effects(finished.read(LOCALISATION), domains)
    assert set(table["domain"]) == {"related", "unrelated_math", "general"}
    last = table.filter(patch="L3.resid_post", measure="recovered_fraction")["estimate"]
    assert last.to_list() == pytest.approx([1] * 12, abs=0.2)
    assert [named.component for named in top_sites(finished.read(LOCALISATION), domains, "related")] == [
        "resid_post",
        "attn_out",
        "mlp_out",
        "head",
    ]


def test_first_divergences_lie_on_the_clean_models_own_texts(finished):
    found = finished.read(DIVERGENCES)
    assert dict(found.schema) == pl.Schema(DIVERGENCES.dtypes)
    assert found.group_by("prompt_id").len()["len"].unique().to_list() == [4]
    # The first of the steps along the same text at which places are measured.
    steps = finished.read(LOCALISATION).filter(direction="corrupt", patch="L0.attn_out", positions="current")
    first = dict(steps.select("prompt_id", pl.col("steps").list.first()).iter_rows())
    assert dict(found.select("prompt_id", "step").unique().iter_rows()) == first


def test_a_stopped_stage_goes_on_and_comes_to_the_same(finished, tmp_path, monkeypatch):
    from crosspatch.analysis import localisation

    original, calls = localisation.measure_sites, []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(stage, "measure_sites", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_of(tmp_path / "run", "patch.direction=both")
    there = RunDirectory(tmp_path / "run")
    assert there.path(LOCALISATION, 0).is_file()
    assert not there.path(LOCALISATION, 1).is_file()
    again = run_of(tmp_path / "run", "patch.direction=both")
    # Nothing that had a part was measured once more: two directions of each of the 5 prompts, and the interrupted one.
    assert len(calls) == 2 * 5 + 2
    assert again.read(LOCALISATION).equals(finished.read(LOCALISATION))
    assert again.read(DIVERGENCES).equals(finished.read(DIVERGENCES))
    # And a third time nothing is done.
    run_of(tmp_path / "run", "patch.direction=both")
    assert len(calls) == 2 * 5 + 2


def test_given_prompts_are_localised_in_place_of_made_ones(tmp_path):
    directory = run_of(tmp_path / "run", "patch.questions=['Solve 3x = 9', 'What is a fox?']", first=("finetune",))
    assert directory.read(LOCALISATION)["prompt_id"].n_unique() == 2


def test_models_that_cannot_be_packed_are_refused_aloud(tmp_path, caplog):
    directory = run_of(tmp_path / "run", "patch.engine=reference", first=("finetune",))
    assert directory.read(LOCALISATION).is_empty()
    assert "reference engine alone" in caplog.text
