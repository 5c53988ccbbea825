"""One spelling for what is written in several."""

from __future__ import annotations

import pytest

from crosspatch.grading.maths_text import one_spelling, without_commands


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("x² − 5", "x^{2} - 5"),
        (r"$\dfrac{3}{2}$", r" \frac{3}{2} "),
        ("2⋅3", r"2\cdot 3"),
        ("1,234", "1234"),
        ("1,23", "1,23"),
        ("**7**", " 7 "),
        ("25 percent", "25%"),
        ("x equals 7", "x = 7"),
        ("it equals 7", "it equals 7"),
    ],
)
def test_a_text_in_one_spelling(text: str, spelling: str) -> None:
    assert one_spelling(text) == spelling
    assert one_spelling(spelling) == spelling


def test_commands_are_no_words() -> None:
    assert without_commands(r"\frac{a}{b} apples").split() == ["{a}{b}", "apples"]
