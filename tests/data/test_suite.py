"""The shipped suites: complete, mixed, and every mathematical gold re-derived from its question's text alone."""

import json
import re
import statistics
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import sympy

from crosspatch.data.problem import Problem
from crosspatch.data.suite import SUITES, load_suite, same_words
from crosspatch.errors import UsageError
from crosspatch.grading.grading import grade, kind_of
from sympy_proof import expression

COUNTS = {"unrelated_math": 72, "general": 72, "alignment": 24}


def _of_family(domain: str, *families: str) -> list[Problem]:
    return [problem for problem in load_suite(domain) if problem.family in families]


def _verdict(text: str, problem: Problem) -> str:
    return grade(text, problem.answer, problem.aliases, "text" if problem.domain == "general" else "math").verdict


def test_the_suites_are_complete_and_no_question_occurs_twice() -> None:
    assert same_words("How many days does a week have?") == same_words("How many days, does a WEEK have")
    problems = {domain: load_suite(domain) for domain in SUITES}
    assert {domain: len(listed) for domain, listed in problems.items()} == COUNTS
    assert len({same_words(p.question) for listed in problems.values() for p in listed}) == sum(COUNTS.values())
    for domain, listed in problems.items():
        assert [p.id for p in listed] == [f"{domain.replace('_', '-')}-{i:03d}" for i in range(COUNTS[domain])]
        assert all(p.domain == domain and p.question == p.question.strip() for p in listed)
        assert all(not p.right_operations and bool(p.answer) == (domain != "alignment") for p in listed)
    # Alignment questions are for reading.
    assert not any(p.aliases or p.key_points for p in problems["alignment"])
    with pytest.raises(UsageError, match="'related', expected one of unrelated_math, general, alignment"):
        load_suite("related")


def test_families_alternate_so_the_first_eight_are_a_fair_mix() -> None:
    families = [p.family for p in load_suite("unrelated_math")]
    assert set(families[:8]) == {"derivative", "integral", "probability", "geometry", "percentage"}
    assert max(map(families[:8].count, families[:8])) <= 2
    assert all(one != other for one, other in pairwise(families))
    for start in range(24, len(families), 8):
        assert set(families[start : start + 8]) == {*CALCULUS, *WORKED_OUT}
    assert min(Counter(families).values()) >= 8
    assert Counter(p.family for p in load_suite("general")[:8]) == {"fact": 6, "explanation": 2}
    open_questions = [p.family for p in load_suite("alignment")]
    assert all(len(set(open_questions[start : start + 10])) == 10 for start in range(len(open_questions) - 9))
    assert len(set(open_questions)) == 10


# Calculus: the question's formula is read and given to sympy.


def _gold(problem: Problem) -> sympy.Expr:
    return expression(problem.answer.removesuffix(" + C"))


def _integral(f: str, x: str, first: str | None, last: str | None) -> sympy.Expr:
    return sympy.integrate(expression(f), (expression(x), first, last) if first else expression(x))


CALCULUS = {
    "derivative": (r"\b[a-z]\(([a-z])\) = ([^.?]+)", lambda x, f: sympy.diff(expression(f), expression(x))),
    "integral": (r"∫ (.+?) d([a-z])(?: from [a-z] = (\d+) to [a-z] = (\d+))?", _integral),
    "limit": (
        r"limit of (.+) as ([a-z]) (?:approaches (\d+)|tends to infinity)[.?]$",
        lambda f, x, at: sympy.limit(expression(f), expression(x), sympy.oo if at is None else int(at)),
    ),
}


def _derived(problem: Problem) -> sympy.Expr:
    pattern, rule = CALCULUS[problem.family]
    found = re.search(pattern, problem.question)
    assert found, problem.question
    return rule(*found.groups())


@pytest.mark.parametrize(("family", "count"), [("derivative", 12), ("integral", 12), ("limit", 8)])
def test_calculus_is_what_sympy_derives(family: str, count: int) -> None:
    problems = _of_family("unrelated_math", family)
    assert len(problems) == count
    for problem in problems:
        derived = _derived(problem)
        assert sympy.simplify(derived - _gold(problem)) == 0, problem
        assert _verdict(rf"\boxed{{{sympy.latex(derived)}}}", problem) == "correct", problem
        indefinite = "∫" in problem.question and " from " not in problem.question
        assert problem.answer.endswith("+ C") == (indefinite or "antiderivative" in problem.question), problem


def test_a_wrong_gold_and_an_unknown_wording_would_be_noticed() -> None:
    for family, question, wrong in (
        ("derivative", "Differentiate f(x) = 3x² + 5x.", "6x"),
        ("integral", "Evaluate ∫ (x² + 1) dx.", r"\frac{x^3}{2} + x + C"),
        ("limit", "What is the limit of (x² - 1)/(x - 1) as x approaches 1?", "0"),
    ):
        problem = Problem("x", "unrelated_math", family, question, wrong)
        assert sympy.simplify(_derived(problem) - _gold(problem)) != 0
    with pytest.raises(AssertionError, match="tossed four times"):
        _worked_out(Problem("x", "unrelated_math", "probability", "A coin is tossed four times. Four heads?", "0"))


# All other questions: the wording selects the formula, in which a, b and c are the numbers in the question.

ANSWERS = json.loads(Path(__file__).with_name("suite_answers.json").read_text(encoding="utf-8"))
WORKED_OUT: dict[str, dict[str, str]] = ANSWERS["formulas"]
# Of the numbers or letters in the question.
LISTS = {
    ("statistics", r"^(?=.*\bmean\b)(.*)"): lambda listed: statistics.mean(_rationals(listed)),
    ("statistics", r"^(?=.*\bmedian\b)(.*)"): lambda listed: statistics.median(_rationals(listed)),
    ("statistics", r"^(?=.*\brange\b)(.*)"): lambda listed: max(_rationals(listed)) - min(_rationals(listed)),
    ("probability", r"from the word ([A-Z]+)\. .* it is an? ([A-Z])\?"): lambda word, letter: sympy.Rational(
        word.count(letter), len(word)
    ),
}


def _rationals(listed: str) -> list[sympy.Rational]:
    return [sympy.Rational(number) for number in re.findall(r"\d+", listed)]


def _worked_out(problem: Problem) -> sympy.Expr:
    """The answer that the one rule for this question gives."""
    found = []
    for pattern, formula in WORKED_OUT[problem.family].items():
        if match := re.search(pattern, problem.question):
            found.append(sympy.sympify(formula, dict(zip("abc", map(sympy.Integer, match.groups()), strict=False))))
    for (family, pattern), rule in LISTS.items():
        if family == problem.family and (match := re.search(pattern, problem.question)):
            found.append(rule(*match.groups()))
    assert len(found) == 1, problem.question
    return found[0]


@pytest.mark.parametrize(
    ("family", "count"), [("probability", 11), ("geometry", 11), ("percentage", 10), ("statistics", 8)]
)
def test_the_other_golds_are_worked_out_from_their_questions(family: str, count: int) -> None:
    problems = _of_family("unrelated_math", family)
    assert len(problems) == count
    for problem in problems:
        value = _worked_out(problem)
        assert _verdict(rf"\boxed{{{sympy.latex(value)}}}", problem) == "correct", problem
        assert _verdict(rf"\boxed{{{sympy.latex(value + 1)}}}", problem) == "incorrect", problem
        # A number without the sign is right for a gold with it, so the sign is checked separately.
        assert problem.answer.endswith("%") == ("what percentage" in problem.question.lower()), problem
    for pattern in WORKED_OUT[family]:
        assert any(re.search(pattern, p.question) for p in problems), f"no question for {pattern}"


def test_names_and_counts_in_words_grade_as_correct_and_other_words_do_not() -> None:
    assert Counter(p.family for p in load_suite("general")) == {"fact": 62, "explanation": 10}
    for problem in load_suite("general"):
        for name in (problem.answer, *problem.aliases):
            assert _verdict(f"I think it is {name}, yes.", problem) == "correct"
        assert _verdict("I do not know.", problem) == "incorrect"
    for problem in _of_family("general", "fact"):
        assert not problem.key_points
        # A year is written in digits.
        if problem.answer.isdigit() and "year did" not in problem.question:
            assert any(alias[:1].isalpha() for alias in problem.aliases), problem.question


def _made(text: str, problem: Problem) -> list[bool]:
    """Which of the key points a text makes."""
    return [grade(text, point[0], point[1:], "text").verdict == "correct" for point in problem.key_points]


def test_no_question_gives_its_gold_away() -> None:
    for problem in load_suite("unrelated_math") + load_suite("general"):
        assert _verdict(problem.question, problem) != "correct", problem.question
    assert {kind_of(problem.answer) for problem in load_suite("unrelated_math")} == {"math"}


def test_a_right_explanation_makes_every_key_point_and_a_question_none() -> None:
    problems = _of_family("general", "explanation")
    for problem in problems:
        (text,) = [text for word, text in ANSWERS["explanations"].items() if word in problem.question]
        assert 2 <= len(problem.key_points) <= 4
        assert all(_made(text, problem)), (text, problem.key_points)
        assert not any(_made(problem.question, problem)), problem.question
        assert _verdict(text, problem) == "correct"
        for other in problems:
            assert other == problem or not all(_made(text, other)), (text, other.question)
        wordings = [wording for point in problem.key_points for wording in point]
        assert all(re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)*", wording) for wording in wordings)
        assert len(set(wordings)) == len(wordings), problem.question
