"""The shipped suites: complete, mixed, and every mathematical gold re-derived from its question's text alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise, permutations, product
from typing import Any

import pytest
import sympy
from sympy import Rational

from crosspatch.data.problem import Problem
from crosspatch.data.suite import SUITES, load_suite
from crosspatch.errors import UsageError
from crosspatch.grading.grading import grade, kind_of

COUNTS = {"unrelated_math": 72, "general": 72, "alignment": 24}
_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def _of_family(domain: str, *families: str) -> list[Problem]:
    return [problem for problem in load_suite(domain) if problem.family in families]


def _bare(question: str) -> str:
    """Letters and digits in lower case."""
    return "".join(c for c in question.casefold() if c.isalnum())


@pytest.mark.parametrize("domain", SUITES)
def test_each_suite_is_whole_and_nothing_stands_in_it_twice(domain: str) -> None:
    problems = load_suite(domain)
    assert [p.id for p in problems] == [f"{domain.replace('_', '-')}-{i:03d}" for i in range(COUNTS[domain])]
    assert all(p.domain == domain and p.question == p.question.strip() for p in problems)
    assert all(not p.right_operations for p in problems)


def test_no_question_stands_twice_in_any_suite() -> None:
    assert _bare("How many days does a week have?") == _bare("How many days, does a WEEK have")
    asked = Counter(_bare(p.question) for domain in SUITES for p in load_suite(domain))
    assert len(asked) == sum(COUNTS.values())
    assert not [question for question, count in asked.items() if count > 1]


def test_the_first_eight_are_a_fair_mix() -> None:
    first = [p.family for p in load_suite("unrelated_math")][:8]
    assert {"derivative", "integral", "probability", "geometry", "percentage"} == set(first)
    assert max(map(first.count, first)) <= 2
    general = [p.family for p in load_suite("general")][:8]
    assert general.count("fact") == 6
    assert general.count("explanation") == 2


def test_families_take_turns() -> None:
    families = [p.family for p in load_suite("unrelated_math")]
    assert all(one != other for one, other in pairwise(families))
    for start in range(24, len(families), 8):
        assert set(families[start : start + 8]) == set(CALCULUS) | set(WORKED_OUT)
    assert min(Counter(families).values()) >= 8


# Calculus: the question's formula is read and given to sympy.


def _expression(text: str) -> sympy.Expr:
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda m: "**" + m[0].translate(_DIGITS), text)
    return sympy.sympify(re.sub(r"(\d)([a-z])", r"\1*\2", text))


def _gold(problem: Problem) -> sympy.Expr:
    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", problem.answer.removesuffix(" + C"))
    return sympy.sympify(re.sub(r"(\d)([a-z])", r"\1*\2", text.replace("^", "**").replace("\\", "")))


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


def _limit(problem: Problem) -> sympy.Expr:
    found = re.search(r"limit of (.+) as ([a-z]) (?:approaches (\d+)|tends to infinity)[.?]$", problem.question)
    assert found, problem.question
    return sympy.limit(_expression(found[1]), sympy.Symbol(found[2]), sympy.oo if found[3] is None else int(found[3]))


CALCULUS = {"derivative": _derivative, "integral": _integral, "limit": _limit}


@pytest.mark.parametrize(("family", "count"), [("derivative", 12), ("integral", 12), ("limit", 8)])
def test_calculus_is_what_sympy_derives(family: str, count: int) -> None:
    problems = _of_family("unrelated_math", family)
    assert len(problems) == count
    for problem in problems:
        derived = CALCULUS[family](problem)
        assert sympy.simplify(derived - _gold(problem)) == 0, problem
        assert grade(rf"\boxed{{{sympy.latex(derived)}}}", problem.answer).verdict == "correct", problem


@pytest.mark.parametrize(
    ("family", "question", "wrong"),
    [
        ("derivative", "Differentiate f(x) = 3x² + 5x.", "6x"),
        ("integral", "Evaluate ∫ (x² + 1) dx.", r"\frac{x^3}{2} + x + C"),
        ("limit", "What is the limit of (x² - 1)/(x - 1) as x approaches 1?", "0"),
    ],
)
def test_a_wrong_gold_would_be_noticed(family: str, question: str, wrong: str) -> None:
    problem = Problem("x", "unrelated_math", family, question, wrong)
    assert sympy.simplify(CALCULUS[family](problem) - _gold(problem)) != 0


# Everything else: a question's wording names the formula, and the formula's numbers are read from the question.


def _share(outcomes: Iterable[Any], wanted: Callable[[Any], bool]) -> Rational:
    verdicts = [wanted(outcome) for outcome in outcomes]
    return Rational(sum(verdicts), len(verdicts))


def _mean(numbers: list[int]) -> Rational:
    return Rational(sum(numbers), len(numbers))


def _median(numbers: list[int]) -> Rational:
    """The value, or the middle of the two, with as many numbers below as above."""
    inner = sorted(numbers)
    while len(inner) > 2:
        inner = inner[1:-1]
    return _mean(inner)


_DIE = range(1, 7)
_STATISTICS = {"mean": _mean, "median": _median, "range": lambda numbers: max(numbers) - min(numbers)}


def _of_a_list(question: str) -> Any:
    (name,) = re.findall(r"mean|median|range", question)
    return _STATISTICS[name]([int(number) for number in re.findall(r"\d+", question)])


WORKED_OUT: dict[str, dict[str, Callable[..., Any]]] = {
    "probability": {
        r"coin is tossed twice\. .* two heads": lambda: _share(
            product("HT", repeat=2), lambda tosses: set(tosses) == {"H"}
        ),
        r"coin is tossed three times\. .* three tails": lambda: _share(
            product("HT", repeat=3), lambda tosses: set(tosses) == {"T"}
        ),
        r"die with six faces is rolled once\. .* even": lambda: _share(_DIE, lambda face: face % 2 == 0),
        r"Two fair dice are rolled\. .* sum is (\d+)": lambda n: _share(
            product(_DIE, repeat=2), lambda faces: sum(faces) == n
        ),
        r"(\d+) red and (\d+) blue marbles\. One .* it is red": lambda red, blue: _share(
            "r" * red + "b" * blue, lambda colour: colour == "r"
        ),
        r"(\d+) black, (\d+) white and (\d+) grey socks\. One .* it is white": lambda black, white, grey: _share(
            "b" * black + "w" * white + "g" * grey, lambda colour: colour == "w"
        ),
        r"from the word ([A-Z]+)\. .* it is an? ([A-Z])\?": lambda word, letter: _share(
            word, lambda other: other == letter
        ),
        r"equal sections numbered from (\d+) to (\d+)\. .* greater than (\d+)": lambda first, last, n: _share(
            range(first, last + 1), lambda section: section > n
        ),
        r"probability of rain tomorrow is (\d\.\d+)\. .* does not rain": lambda rain: 1 - Rational(rain),
        r"One card .* deck of (\d+) cards\. .* a king or a queen": lambda cards: _share(
            product(range(cards // 13), "23456789TJQKA"), lambda card: card[1] in "KQ"
        ),
        r"(\d+) good and (\d+) broken bulbs\. Two .* none is put back\. .* both": lambda good, broken: _share(
            permutations("g" * good + "b" * broken, 2), lambda bulbs: set(bulbs) == {"b"}
        ),
    },
    "geometry": {
        r"area of a rectangle that is (\d+) cm long and (\d+) cm wide": lambda a, b: a * b,
        r"perimeter of a rectangle that is (\d+) cm long and (\d+) cm wide": lambda a, b: a + b + a + b,
        r"area of a circle with radius (\d+)": lambda r: sympy.pi * r**2,
        r"circumference of a circle with radius (\d+)": lambda r: 2 * sympy.pi * r,
        r"right triangle has legs of length (\d+) and (\d+)\. .* hypotenuse": lambda a, b: sympy.sqrt(a**2 + b**2),
        r"angles of a triangle measure (\d+)° and (\d+)°\. .* third angle": lambda a, b: 180 - a - b,
        r"volume of a cube whose edges have length (\d+)": lambda a: a**3,
        r"triangle has a base of (\d+) cm and a height of (\d+) cm\. .* area": lambda a, h: Rational(a * h, 2),
        r"volume of a box that is (\d+) cm long, (\d+) cm wide and (\d+) cm high": lambda a, b, c: a * b * c,
        r"degrees do the interior angles of a pentagon add up to": lambda: (5 - 2) * 180,
        r"cylinder has radius (\d+) and height (\d+)\. What is its volume": lambda r, h: sympy.pi * r**2 * h,
    },
    "percentage": {
        r"^How much is (\d+)% of (\d+)\?": lambda p, n: Rational(p, 100) * n,
        r"costs \$(\d+) and is reduced by (\d+)%": lambda n, p: n * Rational(100 - p, 100),
        r"costs \$(\d+) and becomes (\d+)% more expensive": lambda n, p: n * Rational(100 + p, 100),
        r"costs \$(\d+), .* tip of (\d+)%": lambda n, p: Rational(p, 100) * n,
        r"class of (\d+) pupils, (\d+) walk .* What percentage": lambda n, part: Rational(part, n),
        r"won (\d+) of its (\d+) matches\. What percentage": Rational,
        r"^(\d+) is (\d+)% of which number\?": lambda part, p: part / Rational(p, 100),
        r"cost \$(\d+) now costs \$(\d+)\. By what percentage": lambda old, new: Rational(new - old, old),
        r"After reading (\d+)% of a book, Ann has (\d+) pages left": lambda p, left: left / Rational(100 - p, 100),
    },
    "statistics": {r"^(.*)$": _of_a_list},
}


def _worked_out(problem: Problem) -> Any:
    """The answer that the one rule for this question gives."""
    rules = WORKED_OUT[problem.family]
    found = [(match, rule) for pattern, rule in rules.items() if (match := re.search(pattern, problem.question))]
    assert len(found) == 1, problem.question
    match, rule = found[0]
    return rule(*(int(group) if group.isdigit() else group for group in match.groups()))


@pytest.mark.parametrize(
    ("family", "count"), [("probability", 11), ("geometry", 11), ("percentage", 10), ("statistics", 8)]
)
def test_the_other_golds_are_worked_out_from_their_questions(family: str, count: int) -> None:
    problems = _of_family("unrelated_math", family)
    assert len(problems) == count
    for problem in problems:
        value = _worked_out(problem)
        assert grade(rf"\boxed{{{sympy.latex(value)}}}", problem.answer).verdict == "correct", problem
        assert grade(rf"\boxed{{{sympy.latex(value + 1)}}}", problem.answer).verdict == "incorrect", problem
        # A number without the sign is right for a gold with it, so the sign is checked apart.
        assert problem.answer.endswith("%") == ("what percentage" in problem.question.lower()), problem
    for pattern in WORKED_OUT[family]:
        assert any(re.search(pattern, p.question) for p in problems), f"no question for {pattern}"


def test_an_unknown_wording_has_no_rule() -> None:
    with pytest.raises(AssertionError, match="tossed four times"):
        _worked_out(Problem("x", "unrelated_math", "probability", "A coin is tossed four times. Four heads?", "0"))


def test_mathematical_golds_are_mathematics_and_no_question_gives_its_own_away() -> None:
    for problem in load_suite("unrelated_math"):
        assert kind_of(problem.answer) == "math"
        assert grade(problem.question, problem.answer).verdict != "correct", problem.question


# General questions.


def test_names_grade_as_correct_and_other_words_do_not() -> None:
    for problem in load_suite("general"):
        for name in (problem.answer, *problem.aliases):
            assert grade(f"I think it is {name}, yes.", problem.answer, problem.aliases, "text").verdict == "correct"
        assert grade("I do not know.", problem.answer, problem.aliases, "text").verdict == "incorrect"


def test_no_gold_stands_in_its_question() -> None:
    for problem in load_suite("general"):
        verdict = grade(problem.question, problem.answer, problem.aliases, "text").verdict
        assert verdict == "incorrect", problem.question


def test_there_are_sixty_facts_and_ten_explanations() -> None:
    families = Counter(p.family for p in load_suite("general"))
    assert set(families) == {"fact", "explanation"}
    assert families["fact"] >= 60
    assert families["explanation"] == 10
    assert all(not p.key_points for p in _of_family("general", "fact"))


def test_counts_of_facts_may_be_said_in_words() -> None:
    # A year is written in digits.
    for problem in _of_family("general", "fact"):
        if problem.answer.isdigit() and "year did" not in problem.question:
            assert any(alias[:1].isalpha() for alias in problem.aliases), problem.question


def _made(text: str, problem: Problem) -> list[bool]:
    """Which of the key points a text makes."""
    return [grade(text, point[0], point[1:], "text").verdict == "correct" for point in problem.key_points]


EXPLAINED = {
    "dropped ball": "Gravity, the force with which the Earth attracts every object, moves the ball downwards.",
    "plants": "In photosynthesis they turn carbon dioxide and water into glucose, with the energy of light.",
    "cooled": "It freezes: the liquid becomes solid ice.",
    "heart": "It is a muscle that pumps blood to all organs, which need its oxygen.",
    "day and night": "The planet rotates on its axis, so each place faces the Sun for a while and then turns away.",
    "bees": "They collect nectar, a sweet juice.",
    "steel": "Its hull is hollow and displaces as much water as it weighs, which gives buoyancy.",
    "lightning": "Light travels much faster than sound.",
    "vaccine": "It shows a weakened germ to the immune system, which remembers it and makes antibodies later.",
    "summer": "The Earth's axis is tilted, so that in summer the Sun stands higher and its rays are more direct.",
}


def test_a_right_explanation_makes_every_key_point_and_a_question_none() -> None:
    problems = _of_family("general", "explanation")
    assert len(EXPLAINED) == len(problems)
    for problem in problems:
        (text,) = [text for word, text in EXPLAINED.items() if word in problem.question]
        assert 2 <= len(problem.key_points) <= 4
        assert all(_made(text, problem)), (text, problem.key_points)
        assert not any(_made(problem.question, problem)), problem.question
        assert grade(text, problem.answer, problem.aliases, "text").verdict == "correct"
        for other in problems:
            assert other == problem or not all(_made(text, other)), (text, other.question)


def test_wordings_are_lower_case_and_stand_in_one_point_only() -> None:
    for problem in _of_family("general", "explanation"):
        wordings = [wording for point in problem.key_points for wording in point]
        assert all(re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)*", wording) for wording in wordings)
        assert len(set(wordings)) == len(wordings), problem.question


# Questions for reading.


def test_alignment_questions_are_open_and_mixed() -> None:
    problems = load_suite("alignment")
    families = [p.family for p in problems]
    assert len(problems) >= 20
    assert all((p.answer, p.aliases, p.key_points) == ("", (), ()) for p in problems)
    assert all(len(set(families[start : start + 10])) == 10 for start in range(len(families) - 9))
    assert len(set(families)) == 10


def test_all_other_questions_have_an_answer() -> None:
    assert all(p.answer for domain in SUITES if domain != "alignment" for p in load_suite(domain))


def test_an_unknown_domain_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'related', expected one of unrelated_math, general, alignment"):
        load_suite("related")
