"""Null truth: where there is nothing, nothing is claimed; on tiny models, through the engine and all statistics.

More worlds, of three pairs: benchmarks/claims.py.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from crosspatch.statistics import bootstrap, permutation
from crosspatch.tables import BEHAVIOUR, CONTROLS
from null_worlds import (
    DEALT,
    DOMAIN_OF,
    EDGE,
    dealt_answers,
    deep_model,
    false_claims,
    measured,
    pair_of,
    patched,
    world_of,
)

WORLDS = 12


@pytest.fixture
def fewer_draws(monkeypatch):
    """The rate of false claims is that of the method, with a little more noise."""
    monkeypatch.setattr(bootstrap, "DRAWS", 400)
    monkeypatch.setattr(permutation, "PERMUTATIONS", 400)


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_draws")
def test_over_null_worlds_few_claims_are_false():
    made = Counter((name, verdict) for _, name, verdict in false_claims("qwen3", WORLDS, seed=0))
    assert {name for name, _ in made} == DEALT | EDGE
    shown = sum(count for (_, verdict), count in made.items() if verdict == "shown")
    # Where labels are dealt, what is contradicted is false as well: there is no difference.
    contradicted = sum(made[name, "contradicted"] for name in DEALT)
    assert shown / made.total() <= 0.05
    assert (shown + contradicted) / made.total() <= 0.07
    # The control: the pair as it is. A last-but-one layer carries its own child's predictions, and no random direction
    # or other child does.
    assert "builds_up" in {claim.name for claim in measured("qwen3").claims() if claim.shown}


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_draws")
def test_two_identical_models_give_no_claim_at_all():
    model = deep_model("qwen3")
    scores = patched(pair_of(model, model))
    assert set(scores["status"]) == {"agree"}
    rng = np.random.default_rng(0)
    answers = [row for name, domain in DOMAIN_OF.items() for row in dealt_answers(name, domain, rng)]
    same = {row["prompt_id"]: row["verdict"] for row in answers if row["condition"] == "clean"}
    rows = [{**row, "verdict": same[row["prompt_id"]], "operation": None} for row in answers]
    found = world_of(scores, CONTROLS.frame(), BEHAVIOUR.frame(rows), DOMAIN_OF).claims()
    assert len(found) > 10
    assert [claim.sentence for claim in found if claim.verdict != "undecided"] == []
