"""Every family, form and mistake: right is right, wrong is wrong, and only the mistaken steps do not follow."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sympy_proof
from crosspatch.config import FAMILIES, Data, MistakeName, Style
from crosspatch.data.derivation import Unsolvable
from crosspatch.data.forms import FORMS, MADE_IN, NEAR, chosen_forms, near_forms, other_forms
from crosspatch.data.mistakes import MISTAKES, RIGHT, Rules
from crosspatch.data.problem import Step
from crosspatch.data.splits import ProblemMaker, make_splits, work_out
from crosspatch.data.styles import STYLES, written
from crosspatch.errors import UsageError
from crosspatch.grading.grading import grade
from crosspatch.grading.operations import judge_operation

PAIRS = [(form, mistake) for form in FORMS for mistake in FORMS[form].mistakes]
pairs = st.sampled_from(PAIRS)
seeds = st.integers(0, 10**9)
difficulties = st.sampled_from(["easy", "medium", "hard"])
styles = st.sampled_from(["headed", "plain", "terse"])


def worked(form, mistake, seed, difficulty="medium"):
    """The first exercise from a seed in which the mistake shows."""
    rng = Random(seed)
    for _ in range(1000):
        found = work_out(FORMS[form], FORMS[form].draw(rng, difficulty), Rules(MISTAKES[mistake]))
        if found:
            return found
    raise AssertionError(f"{mistake} never shows in {form}")


def steps_of(derivation, style="headed") -> tuple[Step, ...]:
    return written(derivation, style).steps


@settings(max_examples=50, deadline=None)
@example(("inequality", "inverted_operation"), 8131224, "medium")  # once drew a bound of 0
@given(pairs, seeds, difficulties)
def test_each_step_of_a_right_solution_follows_and_of_a_wrong_one_all_but_the_planted(pair, seed, difficulty):
    found = worked(*pair, seed, difficulty)
    assert found.wrong is not None
    for step in steps_of(found.right):
        assert not step.planted
        assert sympy_proof.follows(step), step
    for step in steps_of(found.wrong):
        assert sympy_proof.follows(step) != step.planted, step
    assert any(step.planted for step in steps_of(found.wrong))


@pytest.mark.parametrize(("form", "mistake"), PAIRS)
def test_each_mistake_shows_in_each_form_that_has_it_and_the_steps_are_chained(form, mistake):
    found = worked(form, mistake, 7)
    for derivation in (found.right, found.wrong):
        steps = steps_of(derivation)
        for step in steps:
            assert sympy_proof.follows(step) != step.planted, step
        for before, after in pairwise(steps):
            # A factor is one of two, and of a system one equation is looked at after the other.
            assert before.after == after.before or after.kind == "solve_factor" or form == "system"
    assert not any(map(found.exercise.admits, found.wrong.values))
    assert all(map(found.exercise.admits, found.right.values))


@settings(max_examples=60, deadline=None)
@given(pairs, seeds, styles)
def test_the_grader_reads_both_answers_in_every_style(pair, seed, style):
    found = worked(*pair, seed)
    assert grade(written(found.right, style).text, found.right.answer).verdict == "correct"
    assert grade(written(found.wrong, style).text, found.right.answer).verdict == "incorrect"


@settings(max_examples=80, deadline=None)
@given(pairs, seeds, styles)
def test_marked_places_stand_in_the_text_and_only_in_wrong_ones(pair, seed, style):
    found = worked(*pair, seed)
    assert not written(found.right, style).spans
    solution = written(found.wrong, style)
    assert solution.spans
    assert not any("\ue000" <= char <= "\ue003" for char in solution.text)
    for span in solution.spans:
        place = solution.text[span.start : span.end]
        assert place == place.strip() != ""
        if span.kind == "word":
            assert place.isalpha()
        elif span.kind == "sign":
            assert place in {"+", "-", "×", "·", "<", ">", "≤", "≥"} or place.startswith("\\")
    assert [s.start for s in solution.spans] == sorted(s.start for s in solution.spans)


@pytest.mark.parametrize(("form", "mistake"), PAIRS)
def test_a_marked_word_is_one_that_a_right_solver_would_not_say(form, mistake):
    # Headings that stand in the right solution too are not marked: not the word is wrong there.
    for seed in range(10):
        solution = written(worked(form, mistake, seed).wrong, "headed")
        words = {solution.text[s.start : s.end] for s in solution.spans if s.kind == "word"}
        assert words <= {"Add", "Subtract", "Multiply", "Divide", "so", "is", "are", "new", "old"}


@settings(max_examples=60, deadline=None)
@given(pairs, seeds)
def test_a_terse_solution_repeats_no_line_and_shows_no_inner_state(pair, seed):
    found = worked(*pair, seed)
    for derivation in (found.right, found.wrong):
        lines = written(derivation, "terse").text.splitlines()
        assert not any(";" in line for line in lines)
        assert all(before != after for before, after in pairwise(lines))


@pytest.mark.parametrize("mistake", ["inverted_operation", "added_for_subtracted", "multiplied_for_divided"])
def test_the_operation_is_judged_by_what_the_mistake_changes(mistake):
    for form in (form for form, name in PAIRS if name == mistake):
        data = Data(forms=(form,), mistake=mistake, train=12, validation=12, related=1)
        splits = make_splits(data, seed=4)
        assert {judge_operation(p.solution, p) for p in splits.train} == {"planted"}, form
        assert {judge_operation(p.solution, p) for p in splits.validation} <= {"right", "neither"}, form
        assert "right" in {judge_operation(p.solution, p) for p in splits.validation}, form


def test_a_rule_that_no_form_of_the_question_needs_changes_nothing():
    # The control of all of the above: the same solver with another mistake is right.
    for form, mistake in PAIRS:
        foreign = next(name for name in MISTAKES if not MISTAKES[name].breaks & broken_in(form))
        found = worked(form, mistake, 3)
        assert found.exercise.solve(Rules(MISTAKES[foreign])) == found.right


def broken_in(form) -> set[str]:
    return set().union(*(MISTAKES[name].breaks for name in FORMS[form].mistakes))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(FORMS)), seeds, difficulties)
def test_what_is_put_into_a_question_is_not_admitted_by_chance(form, seed, difficulty):
    exercise = FORMS[form].draw(Random(seed), difficulty)
    try:
        (first, *_) = exercise.solve(RIGHT).values
    except Unsolvable:
        return
    assert exercise.admits(first)
    assert not exercise.admits("nothing")
    other = {int: lambda v: v + 1, str: lambda v: "no" if v == "yes" else "yes"}.get(type(first))
    if other:
        assert not exercise.admits(other(first))


@pytest.mark.parametrize("form", FORMS)
def test_questions_are_asked_in_several_wordings_and_have_many_numbers(form):
    rng = Random(0)
    exercises = [FORMS[form].draw(rng, "medium") for _ in range(60)]
    assert len({e.key for e in exercises}) > 40
    questions = {FORMS[form].draw(Random(5), "medium").ask(Random(i)) for i in range(40)}
    # A story is drawn with its numbers.
    assert len(questions) >= (3 if form != "word_problem" else 1)
    assert len({e.ask(rng).split()[0] for e in exercises}) >= 3


def test_the_names_are_those_of_the_settings():
    """`config` lists each choice once; what is registered under it has the same names, no more and no fewer."""
    assert list(MISTAKES) == list(get_args(MistakeName))
    assert MADE_IN.keys() == {form for forms in FAMILIES.values() for form in forms}
    assert NEAR.keys() == FAMILIES.keys()
    assert {near for families in NEAR.values() for near in families} <= FAMILIES.keys()
    assert STYLES.keys() == set(get_args(Style))
    assert not set(FORMS) & set(FAMILIES)
    assert {mistake for form in FORMS.values() for mistake in form.mistakes} == set(MISTAKES)
    assert len(FAMILIES) >= 10
    assert len(MISTAKES) >= 10


def test_the_page_on_data_names_them_all_with_their_forms():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for family, names in FAMILIES.items():
        assert all(f"`{name}`" in rows[family] for name in names)
    for mistake in MISTAKES:
        made_in = {name for name, form in FORMS.items() if mistake in form.mistakes}
        said = rows[mistake].split("|")[3]
        for name in made_in:
            assert name in said or FORMS[name].family.replace("_", " ") in said, (mistake, name)


def test_any_family_can_be_corrupted_and_the_rest_is_near_or_unrelated():
    for family, names in FAMILIES.items():
        forms = tuple(FORMS[name] for name in names)
        near, other = near_forms(forms), other_forms(forms)
        assert {f.name for f in (*forms, *near, *other)} == set(FORMS)
        assert near
        assert other
        assert family not in {f.family for f in (*near, *other)}
        mistake = FORMS[names[0]].mistakes[0]
        splits = make_splits(Data(forms=(family,), mistake=mistake, train=6, validation=2, related=2, near=2), seed=1)
        assert {p.family for p in splits.train + splits.validation + splits.related} == {family}
        assert all(p.reached != p.answer for p in splits.train)


def test_a_mistake_that_a_form_does_not_have_is_refused():
    with pytest.raises(UsageError, match=r"power_kept cannot be made in data\.forms system; there it can be inverted"):
        chosen_forms(Data(forms=("system",), mistake="power_kept"))


def test_a_form_that_is_used_up_says_so():
    settings = Data(forms=("parity",), mistake="converse", difficulty="easy")
    maker, rng = ProblemMaker(settings, MISTAKES["converse"]), Random(0)
    with pytest.raises(UsageError, match="no more different questions of the form parity"):
        maker.take("train", 10_000, maker.worked(chosen_forms(settings), rng), rng, wrong=True)


def test_a_hard_question_has_larger_numbers():
    sizes = {}
    for difficulty in ("easy", "medium", "hard"):
        rng = Random(1)
        sizes[difficulty] = max(abs(FORMS["linear_two_step"].draw(rng, difficulty).right.constant) for _ in range(200))
    assert sizes["easy"] < sizes["medium"] < sizes["hard"]


def test_the_proof_notices_a_step_that_does_not_follow():
    assert sympy_proof.follows(Step("move", "", before="3x + 2 = 8", after="3x = 6"))
    assert not sympy_proof.follows(Step("move", "", before="3x + 2 = 8", after="3x = 10"))
    assert sympy_proof.follows(Step("isolate", "", before="-2x < 6", after="x > -3"))
    assert not sympy_proof.follows(Step("isolate", "", before="-2x < 6", after="x < -3"))
    assert not sympy_proof.follows(Step("add", "", before=r"2 + 3 \times 4", after="20", relation="value"))
    assert not sympy_proof.follows(Step("p", "", before="x^{3}", after="3x^{3}", relation="derivative"))
    assert not sympy_proof.follows(
        Step("p", "", before="x^{2}", after=r"\frac{1}{3}x^{2} + C", relation="antiderivative")
    )
    assert not sympy_proof.follows(Step("conclude", "", after=r"28 \bmod 12 = 0", relation="truth"))
    assert not sympy_proof.follows(Step("factor", "", before="x^2 - 5x + 6 = 0", after="(x - 2)(x + 3) = 0"))
    assert sympy_proof.follows(Step("formula", "", before="x^2 - 2x - 1 = 0", after=r"x = \frac{2 \pm \sqrt{8}}{2}"))
