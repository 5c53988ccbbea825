"""Wrong solutions read token by token: which tokens are wrong, and that the scores are those of the text."""

from __future__ import annotations

import polars as pl
import pytest

from crosspatch.data.problem import Span
from crosspatch.experiment import ExperimentRun
from crosspatch.experiment.forced_texts import kinds_of_tokens
from crosspatch.models.loading import Checkpoint
from crosspatch.settings_io import load_experiment
from crosspatch.tables import MISTAKES

SMALL = ["data.related=3", "patch.related=2", "generation.max_new_tokens=6", "patch.layers=1,3", "data.style=terse"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("mistakes") / "run"
    run = ExperimentRun.start(load_experiment("tiny", [*SMALL, "patch.direction=both"]), out)
    run.run("mistakes")
    return run.directory


def test_kinds_by_hand() -> None:
    # "x + 2 = 5\nAdd 2": the word and the number are wrong.
    texts = ["x +", "x + 2", "x + 2 = 5\n", "x + 2 = 5\nAd", "x + 2 = 5\nAdd", "x + 2 = 5\nAdd 2", "x + 2 = 5\nAdd 2"]
    spans = (Span("word", 10, 13), Span("number", 14, 15))
    assert kinds_of_tokens(texts, spans) == [None, None, None, "word", "word", "number", None]
    assert kinds_of_tokens(texts, ()) == [None] * 7


def test_every_patched_problem_is_read_in_its_wrong_solution(finished):
    mistakes = finished.read(MISTAKES)
    assert dict(mistakes.schema) == pl.Schema(MISTAKES.dtypes)
    mistaken = {problem.id: problem for problem in finished.problems("mistaken")}
    assert set(mistakes["prompt_id"]) == {"related-000", "related-001"}
    tokenizer = Checkpoint.named(str(finished.model("clean"))).tokenizer()
    for (prompt_id, direction, patch), rows in mistakes.group_by(
        "prompt_id", "direction", "patch", maintain_order=True
    ):
        assert patch in ("L1.resid_post", "L3.resid_post")
        assert direction in ("corrupt", "repair")
        problem = mistaken[prompt_id]
        assert tokenizer.decode(rows["read_token_id"].to_list(), skip_special_tokens=True) == problem.solution
        # What is wrong is all there, and what is called wrong is: the texts of wrong tokens make up the wrong places.
        wrong = "".join(
            tokenizer.decode([token]).strip() for token in rows.filter(pl.col("span").is_not_null())["read_token_id"]
        )
        said = "".join(problem.solution[span.start : span.end] for span in problem.spans)
        assert said.replace(" ", "") in wrong
        assert len(wrong) <= len(said) + 4


def test_the_wrong_solutions_are_of_the_related_problems_and_wrong(finished):
    related = {problem.id: problem for problem in finished.problems("related")}
    mistaken = finished.problems("mistaken")
    assert [problem.id for problem in mistaken] == list(related)
    for problem in mistaken:
        right = related[problem.id]
        assert (problem.question, problem.answer) == (right.question, right.answer)
        assert problem.reached != right.reached
        assert problem.spans
        assert not right.spans
    # They are not asked: the right ones are.
    assert finished.asked()["related-000"].solution == related["related-000"].solution
