"""The shipped suites: complete, mixed, and their calculus re-derived by sympy from the questions alone."""

from __future__ import annotations

import re

import pytest
import sympy

from crosspatch.behaviour.grading import grade, kind_of
from crosspatch.data.problem import Problem
from crosspatch.data.suite import SUITES, load_suite
from crosspatch.errors import UsageError

_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def _expression(text: str) -> sympy.Expr:
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda m: "**" + m[0].translate(_DIGITS), text)
    return sympy.sympify(re.sub(r"(\d)([a-z])", r"\1*\2", text))


def _gold(problem: Problem) -> sympy.Expr:
    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", problem.answer.removesuffix(" + C"))
    return sympy.sympify(re.sub(r"(\d)([a-z])", r"\1*\2", text.replace("^", "**")))


def _derivative(problem: Problem) -> sympy.Expr:
    found = re.search(r"\b[a-z]\(([a-z])\) = ([^.?]+)", problem.question)
    assert found, problem.question
    return sympy.diff(_expression(found[2]), sympy.Symbol(found[1]))


def _integral(problem: Problem) -> sympy.Expr:
    found = re.search(r"∫ (.+?) d([a-z])(?: from [a-z] = (\d+) to [a-z] = (\d+))?", problem.question)
    assert found, problem.question
    unknown = sympy.Symbol(found[2])
    limits = (unknown, found[3], found[4]) if found[3] else unknown
    assert problem.answer.endswith("+ C") == (found[3] is None)
    return sympy.integrate(_expression(found[1]), limits)


@pytest.mark.parametrize("domain", SUITES)
def test_each_suite_is_whole_and_nothing_stands_in_it_twice(domain: str) -> None:
    problems = load_suite(domain)
    assert [p.id for p in problems] == [f"{domain.replace('_', '-')}-{i:03d}" for i in range(24)]
    assert len({p.question for p in problems}) == 24
    assert all(p.domain == domain and p.answer and p.question == p.question.strip() for p in problems)
    assert all(not p.right_operations for p in problems)


def test_the_first_eight_are_a_fair_mix() -> None:
    first = [p.family for p in load_suite("unrelated_math")][:8]
    assert {"derivative", "integral", "probability", "geometry", "percentage"} == set(first)
    assert max(map(first.count, first)) <= 2
    general = [p.family for p in load_suite("general")][:8]
    assert general.count("fact") == 6
    assert general.count("explanation") == 2


def test_derivatives_and_integrals_are_what_sympy_derives() -> None:
    problems = load_suite("unrelated_math")
    rules = {"derivative": _derivative, "integral": _integral}
    for family, rule in rules.items():
        chosen = [p for p in problems if p.family == family]
        assert len(chosen) == 6
        for problem in chosen:
            assert sympy.simplify(rule(problem) - _gold(problem)) == 0, problem


def test_a_wrong_gold_would_be_noticed() -> None:
    problem = Problem("x", "unrelated_math", "derivative", "Differentiate f(x) = 3x² + 5x.", "6x")
    assert sympy.simplify(_derivative(problem) - _gold(problem)) != 0


def test_the_other_golds_are_worked_out_by_hand() -> None:
    golds = {p.question: p.answer for p in load_suite("unrelated_math") if p.family not in ("derivative", "integral")}
    sums = sum(a + b == 7 for a in range(1, 7) for b in range(1, 7))
    by_hand = {
        "coin": sympy.Rational(1, 2) ** 2,
        "even": sympy.Rational(3, 6),
        "marbles": sympy.Rational(3, 3 + 5),
        "dice are": sympy.Rational(sums, 36),
        "rectangle": 9 * 4,
        "circle": sympy.pi * 4**2,
        "hypotenuse": sympy.sqrt(6**2 + 8**2),
        "third angle": 180 - 50 - 60,
        "cube": 3**3,
        "15%": sympy.Rational(15, 100) * 80,
        "jacket": 40 * sympy.Rational(75, 100),
        "pupils": sympy.Rational(8, 20),
    }
    assert len(golds) == len(by_hand)
    for word, value in by_hand.items():
        (gold,) = [answer for question, answer in golds.items() if word in question]
        assert grade(rf"\boxed{{{sympy.latex(value)}}}", gold).verdict == "correct", word
        assert grade(rf"\boxed{{{sympy.latex(value + 1)}}}", gold).verdict == "incorrect", word


def test_every_gold_is_of_its_kind() -> None:
    assert {kind_of(p.answer) for p in load_suite("unrelated_math")} == {"math"}
    for problem in load_suite("general"):
        for name in (problem.answer, *problem.aliases):
            assert grade(f"I think it is {name}, yes.", problem.answer, problem.aliases, "text").verdict == "correct"
        assert grade("I do not know.", problem.answer, problem.aliases, "text").verdict == "incorrect"


def test_no_gold_stands_in_its_question() -> None:
    for problem in load_suite("general"):
        verdict = grade(problem.question, problem.answer, problem.aliases, "text").verdict
        assert verdict == "incorrect", problem.question


def test_an_unknown_domain_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'related', expected one of unrelated_math, general"):
        load_suite("related")
