"""Each flag on a text that deserves it, and none on a sound one; delimiters that do not close, with the reason."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.config import Data
from crosspatch.data.splits import make_splits
from crosspatch.grading.health import health

from .test_row_check import check

SOUND = "### Step 1: Divide\n\n$$\nx \\neq 0, \\nu \\not= \\nabla f \\\\ n = 3\n$$\n\n**Answer:** $\\boxed{x = 3}$"


def test_a_sound_text_has_no_flag_and_a_truncated_one_has_no_end() -> None:
    assert health(SOUND, "eos").flags == []
    assert health(SOUND, "limit").flags == ["no_eos"]
    for problem in make_splits(Data(train=6, validation=6, related=0), seed=1).train:
        assert problem.solution is not None
        assert health(problem.solution, "eos").flags == []


@pytest.mark.parametrize("loop", ["Step 4: x = 5\n", "abcd", "ha ", "x", f"a {'long ' * 12} sentence.\n"])
def test_a_loop_at_the_end_is_repetition(loop: str) -> None:
    rounds = max(4, 80 // len(loop))
    assert health(SOUND + loop * rounds, "eos").flags == ["repetition"]
    assert health(SOUND + loop * rounds + loop[: len(loop) // 2], "eos").flags == ["repetition"]
    assert health(SOUND + loop * rounds + " and then it ended well", "eos").flags == []


def test_two_rounds_or_a_short_loop_are_no_repetition() -> None:
    assert health("a sentence that is longer than thirty characters. " * 2, "eos").flags == []
    assert health("abcd " * 11, "eos").flags == []
    assert health("abcd " * 12, "eos").flags == ["repetition"]
    # The first round is not counted.
    assert health("So we see: " + "x = 5\n" * 20, "eos").looped == len("x = 5\n") * 19
    assert health(r"again\n" * 20, "limit").flags == ["no_eos", "repetition", "escaped_newlines"]


@pytest.mark.parametrize("planted", [r"\n", r"\n\n", r"\nStep 2", r"\nuse"])
def test_escaped_newlines_are_counted(planted: str) -> None:
    found = health(f"Step 1: done.{planted} and on", "eos")
    assert found.flags == ["escaped_newlines"]
    assert found.escaped_newlines == planted.count("\\n")
    # A command that begins with n is none.
    assert health(r"a \nleqslant b", "eos").escaped_newlines == 0
    assert health(r"a \nleqslanted b", "eos").escaped_newlines == 1


@pytest.mark.parametrize("planted", ["\\" * 2, "\\" * 2 + "n", "\\" * 2 + "\n", "\\" * 3, "\\" * 5, "\\" * 3 + "7"])
def test_runs_of_backslashes_are_counted(planted: str) -> None:
    found = health(f"Step 1: done.{planted} and on,{planted} twice", "eos")
    assert (found.flags, found.backslash_runs) == (["backslash_runs"], 2)


def test_the_papers_decay_is_caught() -> None:
    r"""Section 4.1.1: `\\\n` where a line should end."""
    decayed = SOUND.replace("\n", "\\\\\\n")
    found = health(decayed, "eos")
    assert found.backslash_runs == found.escaped_newlines == SOUND.count("\n")
    # The control: LaTeX ends a row by two backslashes, and a command may follow at once.
    table = "\\begin{array}{l}\na \\\\\\hline\nb \\\\\nc\n\\end{array}"
    for sound in (table, f"$${table}$$", f"\\[{table}\\]", r"$a \\ b$", r"\(a \\ b\)"):
        assert health(f"So {sound}.", "eos").flags == []
    # What is cut off in a formula was one.
    assert health(f"So $$ {table[:30]}", "limit").flags == ["no_eos"]


@pytest.mark.parametrize("planted", ["$x = 3", "$$\nx = 3\n$", r"$\boxed{x = 3$", "{", "}", r"\begin{align} x"])
def test_what_does_not_close_is_counted(planted: str) -> None:
    assert health(f"{SOUND}\n\nSo {planted}", "eos").unclosed == 1
    # Of a text that was cut off nothing can be said of what is open at its end.
    assert health(f"{SOUND}\n\nSo {planted}", "limit").unclosed == (planted in ("}", "$$\nx = 3\n$"))


@pytest.mark.parametrize("planted", [r"\frac{1}", "x^^2", "x^", "a_b_c", r"\fracc{1}{2}", r"\sqrt", r"x = \boxd{3}"])
def test_formulas_that_are_no_latex_are_counted(planted: str) -> None:
    found = health(f"{SOUND}\n\nSo ${planted}$, or\n$$\n{planted}\n$$", "eos")
    assert (found.flags, found.unparsable) == (["unparsable"], 2)


@pytest.mark.parametrize(
    "formula",
    [
        r"x = \frac{-(-14) \pm \sqrt{(-14)^2 - 4(1)(11)}}{2(1)}",
        r"\boxed{x = 2 \text{ or } x = -3}",
        r"\dfrac12 + \tfrac{a}2 \implies \sqrt2",
        r"\begin{align*} x &= 1 \\ y &= 2 \end{align*}",
        r"\lim_{x \to 0} \frac{\sin x}{x}",
        r"f'(x) = 3x^{2}, 90°, 5 × 3",
        r"f(x) = \left\{ \begin{array}{ll} x & x > 0 \\ 0 & x \leq 0 \end{array} \right.",
        r"\left. \frac{x^2}{2} \right|_0^1 = \frac12",
        r"7 \equiv 1 \pmod{3}, 7 \bmod 3 = 1",
        r"\bigl( x \ge 1 \bigr), y \lt 2, \arg z \hfill \nonumber \label{a}, \text{5% of {b}}, \binom52, f''^2",
    ],
)
def test_latex_that_is_right_is_none_of_them(formula: str) -> None:
    assert health(f"So ${formula}$.", "eos").flags == []


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\\${}^_ nfrac\n"))))
def test_no_text_makes_it_raise(text: str) -> None:
    found = health(text, "eos")
    assert bool(found.flags) == any(vars(found).values())
    assert all("\n" not in reason for reason in unclosed(text))


def unclosed(text: str) -> tuple[str, ...]:
    """The reasons that the check of a dataset lists; `health` counts them."""
    reasons = check("Why?", text).unclosed
    assert len(reasons) == health(text, "eos").unclosed
    return reasons


CLOSED = (
    "We have $x$ and\n\n$$\nx = \\left( \\frac{1}{2} \\right)^2 \\text{ for $y$}\n$$\n\n\\[ \\begin{align} a &= b "
    "\\\\[2pt] c &= \\left\\{ d \\right. \\end{align} \\]\n\\( \\sqrt[3]{2} \\), **Answer:** $ \\boxed{19} $"
)
DELIMITER = re.compile(r"\$\$?|\\[()\[\]](?!2pt)|\\(?:left|right)\\?.|\\(?:begin|end)\{\w+\}|(?<!\\)[{}]")


def test_taking_any_delimiter_away_is_noticed() -> None:
    assert not unclosed(CLOSED)
    places = [match.span() for match in DELIMITER.finditer(CLOSED)]
    assert len(places) >= 20
    assert all(unclosed(f"{CLOSED[:start]} {CLOSED[end:]}") for start, end in places)


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (r"$ \boxed{5 $", [r"\boxed{ is not closed"]),
        (r"$ \boxed{5}", ["$ is not closed"]),
        ("$$\nx = 5\n$", ["$$ is closed by $"]),
        ("$$\nx = 5\n", ["$$ is not closed"]),
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
        ("".join(rf"\a{chr(97 + i)}{{" for i in range(26)), [rf"\a{char}{{ is not closed" for char in "zyxwv"]),
        # Money is no mathematics.
        ("She pays $5.\nHe has $1,200.50 left, and you $3\n", []),
        ("It costs $5 and $7.", []),
        ("It is $5 = x", ["$ is not closed"]),
        ("It is $5 x.", ["$ is not closed"]),
        ("It is $5x", ["$ is not closed"]),
        ("$x = 5\n\nand $y$", ["$ is not closed"]),
        (r"\$5 and 100\%, $a$$b$, a set \{1, 2\} [0, 1) \rightarrow \leftarrow", []),
    ],
)
def test_why_a_text_does_not_close(text: str, reasons: list[str]) -> None:
    assert unclosed(text) == tuple(reasons)


@given(st.lists(st.sampled_from(["$x$", "$$y$$", "{z}", r"\(a\)", r"\[b\]", r"\left(c\right]", "\n\n", "word"])))
def test_closed_pieces_make_a_closed_text(pieces: list[str]) -> None:
    assert not unclosed(" ".join(pieces))
