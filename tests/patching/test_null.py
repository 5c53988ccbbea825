"""Null truth: where there is nothing, nothing is claimed; on tiny models, through the engine and all statistics.

More worlds, of three pairs: benchmarks/claims.py.
"""

from collections import Counter

import numpy as np
import pytest

import null_worlds
from crosspatch.statistics import bootstrap, depth, permutation, tokens
from crosspatch.tables import BEHAVIOUR, CONTROLS
from null_worlds import DEALT, EDGE, World, dealt_answers, false_claims, measured, patched
from pairs import changed_model, raw_pair


@pytest.fixture(scope="module", autouse=True)
def smaller():
    """Nine prompts of each domain, shorter texts and fewer draws: the same rate of false claims, with more noise.

    Statistics that no claim reads are left out: other measures, and classes of tokens at single layers.
    """
    all_depths = tokens._depths
    few = {question for question in null_worlds.QUESTIONS if int(question[-2:]) < 9}
    with pytest.MonkeyPatch.context() as context:
        for constant in ("QUESTIONS", "DOMAIN_OF"):
            whole = getattr(null_worlds, constant)
            context.setattr(null_worlds, constant, {name: value for name, value in whole.items() if name in few})
        context.setattr(null_worlds, "TOKENS", 8)
        context.setattr(bootstrap, "DRAWS", 400)
        context.setattr(permutation, "PERMUTATIONS", 400)
        context.setattr(depth, "MEASURES", {name: depth.MEASURES[name] for name in tokens.TESTED})
        context.setattr(depth, "COMPARED", ["recovered_fraction"])
        context.setattr(tokens, "COUNTED", tokens.TESTED)
        context.setattr(
            tokens, "_depths", lambda *of: [(at, over) for at, over in all_depths(*of) if at["layer"] is None]
        )
        yield
    measured.cache_clear()


@pytest.mark.slow
def test_over_null_worlds_few_claims_are_false():
    made = Counter((name, verdict) for _, name, verdict in false_claims("qwen3", worlds=8, seed=0))
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
def test_two_identical_models_give_no_claim_at_all():
    model = changed_model("qwen3", num_hidden_layers=null_worlds.N_LAYERS)
    scores = patched(raw_pair(model, model))
    assert set(scores["status"]) == {"agree"}
    rng = np.random.default_rng(0)
    answers = [row for name, domain in null_worlds.DOMAIN_OF.items() for row in dealt_answers(name, domain, rng)]
    same = {row["prompt_id"]: row["verdict"] for row in answers if row["condition"] == "clean"}
    rows = [{**row, "verdict": same[row["prompt_id"]], "operation": None} for row in answers]
    found = World(scores, CONTROLS.frame(), BEHAVIOUR.frame(rows), null_worlds.DOMAIN_OF).claims()
    assert len(found) > 10
    assert [claim.sentence for claim in found if claim.verdict != "undecided"] == []
