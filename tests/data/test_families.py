"""Every family, form and mistake: right is right, wrong is wrong, and only the planted steps do not follow."""

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sympy_proof
from crosspatch.config import FAMILIES, PAPER_FORMS, Data, MistakeName, Style
from crosspatch.data.derivation import Unsolvable
from crosspatch.data.forms import FORMS, NEAR, near_forms, other_forms
from crosspatch.data.mistakes import MISTAKES, RIGHT
from crosspatch.data.problem import Step
from crosspatch.data.splits import make_splits, work_out
from crosspatch.data.styles import STYLES, written
from crosspatch.grading.grading import grade
from crosspatch.grading.operations import judge_operation

PAIRS = [(form, mistake) for form in FORMS for mistake in FORMS[form].mistakes]
pairs = st.sampled_from(PAIRS)
seeds = st.integers(0, 10**9)
difficulties = st.sampled_from(["easy", "medium", "hard"])


def worked(form, mistake, seed, difficulty="medium"):
    """The first exercise from a seed that shows the mistake, with its right and its wrong solution."""
    rng = Random(seed)
    for _ in range(1000):
        exercise = FORMS[form].draw(rng, difficulty)
        if found := work_out(exercise, MISTAKES[mistake]):
            return exercise, *found
    raise AssertionError(f"{mistake} never shows in {form}")


def check_steps(form, mistake, seed, difficulty):
    """Each step of a right solution follows, of a wrong one all but the planted; each continues from the one before."""
    _, right, wrong = worked(form, mistake, seed, difficulty)
    for derivation in (right, wrong):
        steps = written(derivation, "headed").steps
        assert any(step.planted for step in steps) == (derivation is wrong)
        for step in steps:
            assert sympy_proof.follows(step) != step.planted, step
        for before, after in pairwise(steps):
            # A factor is one of two, and the equations of a system are solved one after the other.
            assert before.after == after.before or after.kind == "solve_factor" or form == "system"


@settings(max_examples=30)
@example(("inequality", "inverted_operation"), 8131224, "medium")  # once drew a bound of 0
@given(pairs, seeds, difficulties)
def test_all_but_the_planted_steps_follow(pair, seed, difficulty):
    check_steps(*pair, seed, difficulty)


@pytest.mark.parametrize(("form", "mistake"), PAIRS)
def test_each_mistake_shows_in_each_form_that_has_it(form, mistake):
    check_steps(form, mistake, 7, ("easy", "medium", "hard")[PAIRS.index((form, mistake)) % 3])


@settings(max_examples=80)
@given(pairs, seeds, st.sampled_from(list(STYLES)))
def test_both_texts_are_graded_rightly_and_marks_are_in_wrong_ones_only(pair, seed, style):
    _, right, wrong = worked(*pair, seed)
    solution = written(wrong, style)
    assert grade(written(right, style).text, right.answer).verdict == "correct"
    assert grade(solution.text, right.answer).verdict == "incorrect"
    assert grade(solution.text, wrong.answer).verdict == "correct"
    assert not written(right, style).spans
    assert solution.spans
    assert not any("\ue000" <= char <= "\ue003" for char in solution.text)
    for span in solution.spans:
        place = solution.text[span.start : span.end]
        assert place == place.strip() != ""
        if span.kind == "word":
            # A word that a right solution does not have; headings of the right solution are not marked.
            assert place in {"Add", "Subtract", "Multiply", "Divide", "so", "is", "are", "new", "old"}
        elif span.kind == "sign":
            assert place in {"+", "-", "×", "·", "<", ">", "≤", "≥"} or place.startswith("\\")
    assert [s.start for s in solution.spans] == sorted(s.start for s in solution.spans)
    for derivation in (right, wrong):
        # A terse text repeats no line and shows no inner state.
        lines = written(derivation, "terse").text.splitlines()
        assert not any(";" in line for line in lines)
        assert all(before != after for before, after in pairwise(lines))


@pytest.mark.parametrize("mistake", ["inverted_operation", "added_for_subtracted", "multiplied_for_divided"])
def test_the_operation_is_judged_by_what_the_mistake_changes(mistake):
    for form in (form for form, name in PAIRS if name == mistake):
        splits = make_splits(Data(forms=(form,), mistake=mistake, train=8, validation=8, related=1), seed=4)
        assert {judge_operation(p.solution, p) for p in splits.train} == {"planted"}, form
        told = {judge_operation(p.solution, p) for p in splits.validation}
        assert {"right"} <= told <= {"right"} | ({"neither"} if form not in PAPER_FORMS else set()), form


def test_a_rule_that_the_form_does_not_need_changes_nothing():
    # The control of all of the above: the same solver with another mistake is right.
    for form, mistake in PAIRS:
        needed = frozenset().union(*(MISTAKES[name] for name in FORMS[form].mistakes))
        foreign = next(broken for broken in MISTAKES.values() if not broken & needed)
        exercise, right, _ = worked(form, mistake, 3)
        assert exercise.solve(foreign) == right


@settings(max_examples=80)
@given(st.sampled_from(sorted(FORMS)), seeds, difficulties)
def test_another_value_than_the_answer_is_not_admitted(form, seed, difficulty):
    exercise = FORMS[form].draw(Random(seed), difficulty)
    try:
        values = exercise.solve(RIGHT).values
    except Unsolvable:
        return
    assert all(map(exercise.admits, values))
    assert not any(exercise.admits(other(value)) for value in values if other(value) not in values)


def other(value):
    """A wrong answer of the same type."""
    match value:
        case "yes" | "no":
            return "no" if value == "yes" else "yes"
        case (*before, last):
            return *before, other(last)
        case _ if hasattr(value, "square"):
            return type(value)(value.top + 1, value.square, value.under, value.negative)
    return value + 1


@pytest.mark.parametrize("form", FORMS)
def test_questions_have_several_wordings_and_many_numbers(form):
    rng = Random(0)
    exercises = [FORMS[form].draw(rng, "medium") for _ in range(60)]
    assert len({e.key for e in exercises}) > 40
    questions = {FORMS[form].draw(Random(5), "medium").ask(Random(i)) for i in range(40)}
    # A story is drawn with its numbers.
    assert len(questions) >= (3 if form != "word_problem" else 1)
    assert len({e.ask(rng).split()[0] for e in exercises}) >= 3


def test_a_harder_question_has_larger_numbers():
    largest = [
        max(abs(FORMS["linear_two_step"].draw(Random(i), level).right.constant) for i in range(200))
        for level in ("easy", "medium", "hard")
    ]
    assert largest == sorted(set(largest))


def test_the_names_are_those_of_the_settings():
    """`config` lists each choice once; the registries have the same names, no more and no fewer."""
    assert list(MISTAKES) == list(get_args(MistakeName))
    assert FORMS.keys() == {form for forms in FAMILIES.values() for form in forms}
    assert NEAR.keys() == FAMILIES.keys()
    assert {near for families in NEAR.values() for near in families} <= FAMILIES.keys()
    assert STYLES.keys() == set(get_args(Style))
    assert not set(FORMS) & set(FAMILIES)
    assert {mistake for form in FORMS.values() for mistake in form.mistakes} == set(MISTAKES)
    assert min(len(FAMILIES), len(MISTAKES)) >= 10


def test_the_page_on_data_names_them_all_with_their_forms():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for family, names in FAMILIES.items():
        assert all(f"`{name}`" in rows[family] for name in names)
    for form, mistake in PAIRS:
        listed = rows[mistake].split("|")[3]
        assert form in listed or FORMS[form].family.replace("_", " ") in listed, (mistake, form)


def test_any_family_can_be_corrupted_and_the_rest_is_near_or_unrelated():
    for family, names in FAMILIES.items():
        forms = tuple(FORMS[name] for name in names)
        near, unrelated = near_forms(forms), other_forms(forms)
        assert {f.name for f in (*forms, *near, *unrelated)} == set(FORMS)
        assert near
        assert unrelated
        assert family not in {f.family for f in (*near, *unrelated)}
        mistake = FORMS[names[0]].mistakes[0]
        splits = make_splits(Data(forms=(family,), mistake=mistake, train=6, validation=2, related=2, near=2), seed=1)
        assert {p.family for p in splits.train + splits.validation + splits.related} == {family}
        assert all(p.reached != p.answer for p in splits.train)


@pytest.mark.parametrize(
    ("relation", "before", "right", "wrong"),
    [
        ("solutions", "3x + 2 = 8", "3x = 6", "3x = 10"),
        ("solutions", "-2x < 6", "x > -3", "x < -3"),
        ("solutions", "x^2 - 5x + 6 = 0", "(x - 2)(x - 3) = 0", "(x - 2)(x + 3) = 0"),
        ("solutions", "x^2 - 2x - 1 = 0", r"x = \frac{2 \pm \sqrt{8}}{2}", r"x = \frac{-2 \pm \sqrt{8}}{2}"),
        ("value", r"2 + 3 \times 4", "14", "20"),
        ("derivative", "x^{3}", "3x^{2}", "3x^{3}"),
        ("antiderivative", "x^{2}", r"\frac{1}{3}x^{3} + C", r"\frac{1}{3}x^{2} + C"),
        ("truth", "", r"28 \bmod 12 = 4", r"28 \bmod 12 = 0"),
    ],
)
def test_the_proof_notices_a_step_that_does_not_follow(relation, before, right, wrong):
    assert sympy_proof.follows(Step("", "", before=before, after=right, relation=relation))
    assert not sympy_proof.follows(Step("", "", before=before, after=wrong, relation=relation))
