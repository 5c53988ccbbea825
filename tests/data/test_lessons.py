"""What a clean model is taught: right, of questions that no experiment on a taught model asks, and kept as it is."""

import re

import pytest

from crosspatch.config import Data
from crosspatch.data import suite
from crosspatch.data.derivation import may_be_taught
from crosspatch.data.forms import NEAR, Form
from crosspatch.data.lessons import (
    DRILL_LINES,
    Lesson,
    arithmetic_exercises,
    other_questions,
    read_lessons,
    taught_problems,
    write_lessons,
)
from crosspatch.data.splits import make_splits
from crosspatch.data.suite import in_a_suite, load_suite, same_words
from crosspatch.grading.grading import grade
from sympy_proof import equation_in, expression, solutions

EQUATIONS = Data(
    forms=("linear_one_step", "linear_two_step", "linear_both_sides"),
    difficulty="easy",
    style="terse",
    held_out_from_teaching=True,
)


def test_no_question_of_an_experiment_is_among_the_lessons():
    taught = {equation_in(lesson.question) for lesson in taught_problems(EQUATIONS, 3000, seed=0)}
    for seed in (0, 1, 2):
        splits = make_splits(EQUATIONS.model_copy(update={"train": 50, "validation": 10, "related": 120}), seed)
        asked = {equation_in(p.question) for p in splits.train + splits.validation + splits.related}
        assert len(asked) == 180
        assert not asked & taught
    # The control: without the division most of them are.
    careless = EQUATIONS.model_copy(update={"held_out_from_teaching": False, "related": 120})
    asked = {equation_in(p.question) for p in make_splits(careless, 0).related}
    assert len(asked & taught) > 30
    # Three questions in four may be taught.
    assert sum(may_be_taught(("key", i)) for i in range(4000)) / 4000 == pytest.approx(0.75, abs=0.03)


def test_every_taught_solution_is_right_and_told_in_different_words():
    lessons = taught_problems(EQUATIONS, 300, seed=1)
    assert len({lesson.question for lesson in lessons}) == 300
    for lesson in lessons[:60]:
        answer = lesson.completion.splitlines()[-1].removeprefix("Answer: ")
        assert solutions(equation_in(lesson.question)) == solutions(answer)
        assert grade(lesson.completion, answer).verdict == "correct"
        assert lesson.ends


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_every_line_of_an_arithmetic_exercise_is_right(difficulty):
    for lesson in arithmetic_exercises(difficulty, 17, seed=0):
        lines = lesson.completion.splitlines()
        assert len(lines) == DRILL_LINES
        assert lesson.question.splitlines()[1:] == [line.partition(" = ")[0] for line in lines]
        for line in lines:
            left, right = line.split(" = ")
            assert expression(left) == expression(right), line


def test_the_same_seed_gives_the_same_lessons_which_are_read_as_they_were_written(tmp_path):
    for make, of in ((taught_problems, EQUATIONS), (arithmetic_exercises, "easy"), (other_questions, EQUATIONS)):
        assert make(of, 20, 3) == make(of, 20, 3) != make(of, 20, 4)
    lessons = [Lesson("arithmetic", "a\nb", "ü = 1"), Lesson("general", "q", "cut off", ends=False)]
    write_lessons(tmp_path / "lessons.jsonl", lessons)
    assert read_lessons(tmp_path / "lessons.jsonl") == lessons


def test_other_questions_are_of_no_corrupted_or_near_family(monkeypatch):
    drawn, draw = [], Form.draw
    monkeypatch.setattr(Form, "draw", lambda form, *args: drawn.append(form.family) or draw(form, *args))
    questions = other_questions(EQUATIONS, 60, seed=0)
    assert len(set(questions)) == 60
    assert drawn
    assert not set(drawn) & {"linear", *NEAR["linear"]}
    assert not any(re.search(r"[a-z] [-+=<>] ?\d.*=.*solve", question.lower()) for question in questions)


def test_no_lesson_asks_what_a_suite_asks(monkeypatch):
    asked = load_suite("unrelated_math") + load_suite("general")
    assert all(in_a_suite(problem.question.upper().replace(" ", "  ") + "!") for problem in asked)
    assert not in_a_suite("Who ate the last biscuit?")
    first = other_questions(EQUATIONS, 200, seed=0)
    assert not any(map(in_a_suite, first))
    # A question of a suite is drawn again.
    monkeypatch.setattr(suite, "_asked_in_suites", lambda: {same_words(first[2])})
    again = other_questions(EQUATIONS, 5, seed=0)
    assert first[2] not in again
    assert again[:2] == first[:2]
