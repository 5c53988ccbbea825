"""The mathematical pieces of a text."""

from __future__ import annotations

from crosspatch.behaviour.math_pieces import pieces, pieces_from_end


def test_words_sentences_and_lines_part_the_pieces() -> None:
    assert list(pieces("Now x = 2 or x = 3. So 7 is\na + b and")) == ["x = 2 or x = 3", "7", "a + b"]
    assert list(pieces("Subtract a number from both sides")) == []


def test_the_last_piece_comes_first_and_not_all_are_given() -> None:
    assert list(pieces_from_end("1 then 2\n3")) == ["3", "2", "1"]
    many = list(pieces_from_end("\n".join(map(str, range(100)))))
    assert many == [str(number) for number in range(99, 59, -1)]
