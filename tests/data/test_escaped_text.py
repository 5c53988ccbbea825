r"""Escapes undone give the text back, and no command of LaTeX is taken for an escape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.data.escaped_text import is_escaped, unescaped

CHUNKS = [
    "$$", "\n", "\n\n", "Step 1: ", " x = 3 ", "\nTherefore", "\nnow", r"\frac{1}{2}", r" \times ", r" \neq ", r"$\nu$",
    r"\\", r"\{", '"', ",", "naïve ²", "t", r"\nabla f",
]  # fmt: skip
texts = st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=12).map("".join)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@given(texts.filter(lambda text: "\n" in text))
def test_an_escaped_text_comes_back_whole(text: str) -> None:
    assert is_escaped(escaped(text))
    assert unescaped(escaped(text)) == text


@given(texts.filter(lambda text: "\n" in text))
def test_a_text_with_newlines_is_not_escaped(text: str) -> None:
    assert not is_escaped(text)


@pytest.mark.parametrize("text", [r"x \neq 3", r"$\nu = 5$", r"\nabla f, \not\in, \notin, \norm{x}", r"a \\nb", "no"])
def test_commands_are_no_escapes(text: str) -> None:
    assert not is_escaped(text)
    assert is_escaped(text + r"\nThen")


def test_single_backslashes_among_doubled_ones_stay() -> None:
    # As the first solution of the published validation file has it.
    found = unescaped(r"$$\nx = \frac{95}{5}\n$$\n\n3 \times 4 \neq 5, \text{so} \\boxed{19}\nend")
    assert found == "$$\nx = \\frac{95}{5}\n$$\n\n3 \\times 4 \\neq 5, \\text{so} \\boxed{19}\nend"
    assert not {"\f", "\t"} & set(found)


def test_an_unknown_that_makes_a_command_with_the_newline_before_it() -> None:
    assert unescaped(r"$$\nu = 5\n$$\n\nu = 6.\ne = 7") == "$$\nu = 5\n$$\n\nu = 6.\ne = 7"
    assert unescaped(r"where $\nu$ is\nfive") == "where $\\nu$ is\nfive"


def test_carriage_returns_and_tabs() -> None:
    assert unescaped(r"a\r\nb\t1") == "a\nb\t1"
