"""What attribution patching or a search chooses is measured on texts that had no part in choosing it."""

from __future__ import annotations

import pytest

from architectures import tiny_architecture
from crosspatch.analysis.attribution import attribution_patching
from crosspatch.analysis.selection import CANDIDATES, IG_STEPS, SEARCHED, best_by_attribution, smallest_set
from crosspatch.analysis.site_search import DISAGREE, search_sites
from crosspatch.analysis.teacher_forcing import ForcedText
from crosspatch.models.chat import PromptFormat
from crosspatch.models.pair import ModelPair
from crosspatch.models.tiny import tiny_tokenizer
from crosspatch.patching.patches import Patch
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import ATTRIBUTION, SEARCH
from pairs import child_of

TEXTS = [ForcedText([*range(20 + i, 32 + i)], [*range(40 + 7 * i, 56 + 7 * i)]) for i in range(5)]
HALVES = ((0, 2, 4), (1, 3))


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    clean = tiny_architecture("qwen3")
    return ModelPair(clean, child_of(clean, scale=0.3), PromptFormat(tiny_tokenizer(), raw=True))


def recovered_by(pair, run, texts, patch) -> tuple[float, float]:
    """What a patch moves along some texts, and what there is to move, in logits."""
    moved = gap = 0.0
    for given in texts:
        [trajectory] = score_tokens(pair, given.prompt, given.text, [Patch(patch.sites, DISAGREE)], run)
        steps = [step for step in trajectory.steps if step.y_target != step.y_source]
        moved += sum(step.delta_patched - step.delta_target for step in steps)
        gap += sum(step.delta_source - step.delta_target for step in steps)
    return moved, gap


def elsewhere(pair, run, choose) -> float:
    """What each half of the texts chooses, measured on the other half."""
    parts = []
    for own, other in (HALVES, HALVES[::-1]):
        chosen = choose([TEXTS[i] for i in own])
        parts.append(recovered_by(pair, run, [TEXTS[i] for i in other], chosen))
    return sum(moved for moved, _ in parts) / sum(gap for _, gap in parts)


@pytest.mark.parametrize("direction", ["corrupt", "repair"])
def test_sites_by_attribution_are_measured_where_they_were_not_chosen(pair, direction):
    run = PatchRun(direction)
    table = best_by_attribution(pair, TEXTS, run, ["head"], 3).table
    assert dict(table.schema) == ATTRIBUTION.dtypes
    for rank, row in enumerate(table.iter_rows(named=True)):

        def chosen(some, rank=rank):
            return attribution_patching(pair, some, run, components=["head"], ig_steps=IG_STEPS).top(3)[rank]

        found = elsewhere(pair, run, chosen)
        assert row["held_out"] == pytest.approx(found, abs=1e-5)
    # On the texts that chose them they look better.
    assert table["held_out"][0] < table["exact"][0]


def test_sets_of_a_search_are_measured_where_they_were_not_chosen(pair):
    run = PatchRun()
    selection = smallest_set(pair, TEXTS, run, None, 0.5, 1)

    def chosen(some):
        candidates = attribution_patching(pair, some, run, components=SEARCHED, ig_steps=IG_STEPS).top(CANDIDATES)
        return search_sites(pair, some, candidates, run, wanted=0.5).found

    found = elsewhere(pair, run, chosen)
    assert dict(selection.table.schema) == SEARCH.dtypes
    # It stands beside the set that was chosen, and nowhere else.
    told = selection.table.filter(patch=selection.patches[0].name)["held_out"].to_list()
    assert told == [pytest.approx(found, abs=1e-5)]
    assert selection.table["held_out"].null_count() == selection.table.height - 1
    assert selection.notes[-1] == f"search: sets that half of the texts choose recover {found:.2f} on the other half"


def test_one_text_has_no_other_half(pair):
    run = PatchRun()
    assert best_by_attribution(pair, TEXTS[:1], run, ["head"], 2).table["held_out"].to_list() == [None, None]
    selection = smallest_set(pair, TEXTS[:1], run, None, 0.5, 1)
    assert selection.table["held_out"].null_count() == selection.table.height
    assert "too few texts" in selection.notes[-1]
