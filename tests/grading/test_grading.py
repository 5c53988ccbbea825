"""The grader agrees with every pair of an answer and a gold that people have graded, and no text makes it raise.

`graded_answers.jsonl` holds the pairs, a line each, as `crosspatch grade` reads them, with the verdict, the reason for
it, and whether a model wrote the answer. The verdict is what a person would say who sees only text and gold; texts on
which two people would disagree (truncated in the middle of a remark) are left out.
"""

from collections import Counter
from pathlib import Path

import math_verify
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspatch.data.lines import read_lines
from crosspatch.grading.grading import Grade, grade, grade_explanation, kind_of
from crosspatch.grading.judge import grade_file
from crosspatch.grading.math_answer import parse

TABLE = Path(__file__).with_name("graded_answers.jsonl")
PAIRS = [pair for _, pair in read_lines(TABLE)]
ROOTS = r"x = 2 \text{ or } x = 3"


def test_the_grader_agrees_with_every_graded_pair() -> None:
    verdicts = [found["verdict"] for found in grade_file(TABLE)]
    wrong = [(pair, verdict) for pair, verdict in zip(PAIRS, verdicts, strict=True) if pair["verdict"] != verdict]
    assert not wrong
    assert len(PAIRS) >= 1130
    assert sum(pair["source"] == "model" for pair in PAIRS) >= 80
    assert min(Counter(verdicts).values()) >= 20


def test_a_right_answer_is_wrong_for_another_gold() -> None:
    for pair in (pair for pair in PAIRS if pair["verdict"] == "correct"):
        if "key_points" in pair:
            found = grade_explanation(pair["text"], [["xylophone"], ["zebra"]])
        else:
            gold = "xylophone" if pair.get("kind") == "text" else "987654321"
            found = grade(pair["text"], gold, (), pair.get("kind"))
        assert found.verdict != "correct", pair["text"]


# What math-verify gets wrong: the guards are there for these.
GUARDS = {
    "small numbers, rounded absolutely": (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", "incorrect"),
    "more digits than a double has": ("3.14159265358979", "3.14159265358978", "incorrect"),
    "primes": ("f'(x) = 6x", "f''(x) = 6x", "incorrect"),
    "letters of derivatives": (r"\frac{\partial f}{\partial x}", r"\frac{\partial f}{\partial y}", "incorrect"),
    "upper case": ("R", "r", "incorrect"),
    "units": ("12 m", "12 km", "incorrect"),
    "a letter that is no unit": ("5 t", "5 g", "incorrect"),
    "number bases": ("101_2", "101_3", "incorrect"),
    "clock times": ("3:30", "4:40", "incorrect"),
    "equations without real solutions": ("x^2 + 1 = 0", "x^2 + 2 = 0", "incorrect"),
    "a constant of integration": ("x^2 + C", "x^2", "correct"),
    "rounded values": (r"16\pi", "50.27", "correct"),
    "converted units": (r"5 \text{ m}", r"500 \text{ cm}", "correct"),
    "identities": (r"\ln|\sec x|", r"-\ln|\cos x|", "correct"),
}


@pytest.mark.parametrize(("gold", "said", "verdict"), GUARDS.values(), ids=GUARDS)
def test_a_guard_decides_what_math_verify_gets_wrong(gold: str, said: str, verdict: str) -> None:
    assert grade(rf"\boxed{{{said}}}", gold).verdict == verdict
    assert math_verify.verify(*(math_verify.parse(f"${each}$") for each in (gold, said))) == (verdict == "incorrect")


FOUND = {
    (r"first \boxed{1}, then \boxed{x = \frac{1}{2}}", "x = 3"): (r"x = \frac{1}{2}", "box: different values"),
    (r"\boxed{\text{no solution}}", "x = 7"): (r"\text{no solution}", "box: different values"),
    (r"First \boxed{12}. **Answer:** 6", "6"): ("6", "statement: same text"),
    (r"\boxed{x < 2 or x > 5}", r"(-\infty, 2) \cup (5, \infty)"): ("x < 2 or x > 5", "box: equal sets"),
    (r"\boxed{(2, 3)}", "x = 2, y = 3"): ("(2, 3)", "box: equal tuples"),
    (r"\boxed{\text{(B)}}", "B"): ("B", "choice letter"),
    ("Tokyo", "Paris"): (None, "words"),
    ("I say PARIS!", "Paris"): ("Paris", "words"),
    ("The equation holds for x = 5", "x = 5"): ("x = 5", "values of the unknown: equal values"),
    ("x = 5. Check: if x = 2, then 7.", "x = 5"): ("x = 5", "values of the unknown: equal values"),
    ("x = 2 or x = -5. We reject x = -5.", "x = 2"): ("x = 2 or x = -5", "values of the unknown: equal values"),
    ("First y = 3. Then x = 1. No, x = 2.", "x = 2 and y = 3"): ("y = 3, x = 2", "values of the unknown: equal values"),
    ("The answer is 5. Wait, the answer is 7.", "x = 5"): ("7", "statement: different values"),
    ("The other root is x = 3", "x = 2 or x = 3"): ("x = 3", "values of the unknown: 1 values for 2"),
}


def test_what_was_found_and_which_rule_decided() -> None:
    assert {pair: (grade(*pair).extracted, grade(*pair).rule) for pair in FOUND} == FOUND


def test_an_explanation_is_right_by_more_than_half_of_its_key_points() -> None:
    points = [["gravity", "gravitational force"], ["Earth"], ["pull", "pulls"], ["mass"]]
    right = Grade("correct", "gravitational force, Earth, pulls", "3 of 4 key points")
    assert grade_explanation("The earth pulls with a Gravitational  force.", points) == right
    assert grade_explanation("The Earth pulls.", points) == Grade("incorrect", "Earth, pulls", "2 of 4 key points")
    repeated = grade_explanation("Gravity, gravity, gravitational force!", points)
    assert repeated == Grade("incorrect", "gravity", "1 of 4 key points")
    assert grade_explanation("unearthly pulling massive", points) == Grade("incorrect", None, "0 of 4 key points")
    assert grade_explanation(" ?\n", points) == Grade("unparsed", None, "no final answer found")


def test_the_kind_is_judged_by_the_gold() -> None:
    golds = (ROOTS, "x^4 + C", r"16\pi", "-sin(x)", "12 cm", "36 square meters", "")
    assert {kind_of(gold) for gold in golds} == {"math"}
    assert {kind_of(gold) for gold in ("Paris", r"\text{Increasing}", "the year 1945")} == {"text"}
    assert kind_of("No.") == "yes_no"


def test_what_is_no_value_or_not_safe_is_not_read() -> None:
    unsafe = ["", "9^{9^{9^9}}", r"\binom{9999}{5000}", "2 3", "9!!", r"\frac{1}{", "1" * 101, "1/0", "apples"]
    assert [parse(latex) for latex in unsafe] == [None] * 9
    assert str(parse("x^{1234}")) == "x**1234"
    assert grade("0.33", r"\frac{1}{3}").verdict == "incorrect"
    # The control of texts without an answer: one that is added is found.
    texts = [pair["text"] for pair in PAIRS if pair["why"] == "no answer" and "boxed" not in pair["text"]]
    assert [grade(f"{text}\n\nAnswer: x = 5", "x = 5").verdict for text in texts] == ["correct"] * 10


@settings(max_examples=30)
@given(st.integers(-999, 999), st.integers(-999, 999))
def test_two_numbers_agree_when_they_are_equal_and_only_then(a: int, b: int) -> None:
    assert grade(f"Answer: x = {a}", f"x = {a}").verdict == "correct"
    assert (grade(rf"\boxed{{{a}}}", f"x = {b}").verdict == "correct") == (a == b)


_WORDS = ["answer is ", "**Answer:** ", "x = ", " or ", " and ", "sin", "1,000", "12", "9^{9"]
_COMMANDS = [r"\boxed{", r"\frac{", r"\sqrt", r"\pm", r"\text{"]
_PIECES = st.sampled_from([*_WORDS, *_COMMANDS, *"\\{}()[]$^_=+-*/.,;:!%&#'\n\0 x7²±\u2028\ud800√≈"])


@settings(max_examples=60)
@given(
    st.one_of(st.text(), st.lists(_PIECES, max_size=25).map("".join)),
    st.sampled_from([ROOTS, "x = 5", "x^4 + C", "7", r"16\pi", "Paris"]) | st.text(max_size=20),
)
def test_no_text_and_no_gold_makes_it_raise(text: str, gold: str) -> None:
    found = grade(text, gold)
    assert found.verdict in ("correct", "incorrect", "unparsed")
    assert found.verdict != "unparsed" or found.extracted is None


_LONG = [
    *("\\", "{", r"\boxed{", "}", "\0", "x=", "x=9^", "answer to ", r"\text{", "1", "1 or ", "²", "^(", "$", "1,000"),
    *("ratio 3 ", "1 222 ", "x = 6 is ", "=→", "(or 5 ", "(x, y) = (", "𝑥₁"),
]


@pytest.mark.parametrize("piece", _LONG)
def test_long_hostile_text_is_survived(piece: str) -> None:
    for gold in ("x = 5", "7", "Paris"):
        assert grade(piece * (100_000 // len(piece)), gold).verdict in ("incorrect", "unparsed")
