"""The mathematical pieces of a text."""

from __future__ import annotations

import pytest

from crosspatch.grading.math_pieces import pieces, pieces_from_end


def test_words_sentences_and_lines_part_the_pieces() -> None:
    assert [piece.text for piece in pieces("Now x = 2 or x = 3. So 7 is\na + b and")] == [
        "x = 2 or x = 3",
        "7",
        "a + b",
    ]
    assert list(pieces("Subtract a number from both sides")) == []


def test_the_last_piece_comes_first_and_not_all_are_given() -> None:
    assert [piece.text for piece in pieces_from_end("1 then 2\n3")] == ["3", "2", "1"]
    many = [piece.text for piece in pieces_from_end("\n".join(map(str, range(100))))]
    assert many == [str(number) for number in range(99, 59, -1)]


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        ("The probability of a sum of 7 is 1/6", ["1/6"]),
        ("15% of 80 = 12", ["15%", "80 = 12"]),
        ("The integral from x = 0 to x = 3 is 9", ["9"]),
        ("As x approaches 3 it tends to 6", ["x"]),
        ("A circle with radius 4 has an area of 16\\pi", ["16\\pi"]),
        ("It is 7, not 8.", ["7"]),
        ("Try x = 3. Let x = 4.", []),
        ("x = 2 or x = 3, but x = 3 is not a solution", ["x = 2 or x = 3"]),
    ],
)
def test_the_words_round_a_piece_tell_whether_it_is_claimed(text: str, claimed: list[str]) -> None:
    assert [piece.text for piece in pieces(text) if piece.claimed] == claimed


def test_a_remark_in_brackets_has_no_pieces() -> None:
    assert [piece.text for piece in pieces_from_end("7\n(here we used 3 twice)")] == ["7"]
    assert [piece.text for piece in pieces_from_end("7\n(3, 2)")] == ["(3, 2)", "7"]
