"""Shares of right answers, counted by hand, and the shares of unsound texts."""

from __future__ import annotations

import pytest

from crosspatch.data.problem import Problem
from crosspatch.statistics.answers import MALFORMED, accuracy, output_health
from crosspatch.tables import BEHAVIOUR, HEALTH
from score_cells import of_text

PROBLEMS = {
    name: Problem(name, domain=domain, family="f", form=form, question="q", answer="1")
    for name, domain, form in (
        ("a", "related", "one"), ("b", "related", "one"), ("c", "related", "two"), ("g", "general", ""),
    )
}  # fmt: skip


def row(name, condition, verdict, patch=None):
    return {
        "prompt_id": name, "domain": PROBLEMS[name].domain, "condition": condition, **of_text(patch), "extracted": None,
        "verdict": verdict, "operation": None, "health": [],
    }  # fmt: skip


def test_right_answers_by_model_domain_and_form():
    behaviour = BEHAVIOUR.frame(
        [
            row("g", "clean", "correct"), row("a", "clean", "correct"), row("b", "clean", "unparsed"),
            row("c", "clean", "incorrect"), row("a", "corrupted", "incorrect"),
            row("a", "patched", "correct", "L1.resid_post"),
        ]
    )  # fmt: skip
    assert accuracy(behaviour, PROBLEMS).rows() == [
        ("clean", "related", "one", 1, 2, 0.5),
        ("clean", "related", "two", 0, 1, 0.0),
        ("clean", "general", None, 1, 1, 1.0),
        ("corrupted", "related", "one", 0, 1, 0.0),
    ]
    with pytest.raises(ValueError, match="no problem known for 'a'"):
        accuracy(behaviour, {})


def test_shares_of_texts_with_each_fault():
    sound = dict.fromkeys((*MALFORMED, "cut_off"), 0)
    texts = [
        {"prompt_id": str(i), "condition": "clean", "patch": None, **sound, **faults}
        for i, faults in enumerate([{}, {"looped": 30}, {"unclosed": 2, "unparsable": 1}, {"cut_off": 1}])
    ]
    (found,) = output_health(HEALTH.frame(texts)).iter_rows(named=True)
    assert found == {
        "condition": "clean", "patch": None, "texts": 4, "unsound": 0.5, "looped": 0.25, "backslash_runs": 0.0,
        "escaped_newlines": 0.0, "unclosed": 0.25, "unparsable": 0.25, "cut_off": 0.25,
    }  # fmt: skip
