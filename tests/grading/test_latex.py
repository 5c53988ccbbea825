r"""What closes is let pass, and taking any one delimiter away is noticed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.grading.latex import unclosed

SOUND = (
    "We have $x$ and\n\n$$\nx = \\left( \\frac{1}{2} \\right)^2 \\text{ for $y$}\n$$\n\n\\[ \\begin{align} a &= b "
    "\\\\[2pt] c &= \\left\\{ d \\right. \\end{align} \\]\n\\( \\sqrt[3]{2} \\), **Answer:** $ \\boxed{19} $"
)
DELIMITER = re.compile(r"\$\$?|\\[()\[\]](?!2pt)|\\(?:left|right)\\?.|\\(?:begin|end)\{\w+\}|(?<!\\)[{}]")


@pytest.mark.parametrize(
    "text", [SOUND, "", "plain", "$a$$b$", r"\$5 and 100\%", r"a set \{1, 2\}", r"[0, 1) \rightarrow \leftarrow"]
)
def test_what_closes(text: str) -> None:
    assert unclosed(text) == []


@pytest.mark.parametrize("place", [match.span() for match in DELIMITER.finditer(SOUND)])
def test_one_delimiter_less(place: tuple[int, int]) -> None:
    start, end = place
    assert unclosed(SOUND[:start] + " " + SOUND[end:])


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (r"$ \boxed{5 $", [r"\boxed{ is not closed"]),
        (r"$ \boxed{5}", ["$ is not closed"]),
        ("$$\nx = 5\n$", ["$$ is closed by $"]),
        ("$$\nx = 5\n", ["$$ is not closed"]),
        ("$x = 5\n\nand $y$", ["$ is not closed"]),
        ("$x = 5\n\nand $y = 6", ["$ is not closed"]),
        (r"\(x", [r"\( is not closed"]),
        (r"x\]", [r"\] closes nothing"]),
        (r"\[ $x$ \]", [r"$ stands inside of \["]),
        (r"$\frac{1}{2$", ["{ is not closed"]),
        (r"$x}$", ["} closes nothing"]),
        (r"$\left( x$", [r"\left is not closed"]),
        (r"$x \right)$", [r"\right closes nothing"]),
        (r"\begin{align} x", [r"\begin{align} is not closed"]),
        (r"\begin{align} x \end{gather}", [r"\end{gather} closes nothing", r"\begin{align} is not closed"]),
        (r"\$5$", ["$ is not closed"]),
    ],
)
def test_reasons(text: str, reasons: list[str]) -> None:
    assert unclosed(text) == reasons


def test_money_is_no_mathematics() -> None:
    assert unclosed("She pays $5.\nHe has $1,200.50 left, and you $3\n") == []
    assert unclosed("It costs $5 and $7.") == []
    for formula in ("It is $5 = x", "It is $5x", "It is $5 x."):
        assert unclosed(formula) == ["$ is not closed"]


def test_few_reasons_for_many_faults() -> None:
    text = "".join(rf"\a{chr(97 + i)}{{" for i in range(26))
    assert len(unclosed(text)) == 5


@given(st.text(alphabet="$\\{}()[]ab \nleftrighttextbeginend", max_size=80))
def test_no_text_makes_it_raise(text: str) -> None:
    assert all("\n" not in reason for reason in unclosed(text))


@given(st.lists(st.sampled_from(["$x$", "$$y$$", "{z}", r"\(a\)", r"\[b\]", r"\left(c\right]", "\n\n", "word"])))
def test_sound_pieces_make_a_sound_text(pieces: list[str]) -> None:
    assert unclosed(" ".join(pieces)) == []
