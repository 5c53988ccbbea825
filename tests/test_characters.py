"""Every character of a text can be seen, and half a surrogate pair, which no file can hold, is found."""

import pytest

from crosspatch.characters import half_surrogate, legible, natural_order, visible


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("\x00", "⟨U+0000⟩"),
        ("\u202eab", "⟨U+202E⟩ab"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u2028", "⟨U+2028⟩"),
        ("é", "é"),
    ],
)
def test_invisible_characters_are_named(token: str, shown: str) -> None:
    assert visible(token) == shown
    assert legible(token) == shown


def test_tokens_show_whitespace_and_are_cut_but_texts_keep_lines_and_emoji() -> None:
    assert visible(" add\n") == "␣add↵"
    assert visible("") == "(empty)"
    assert visible("x" * 10_000, 5) == "xxxxx… (10,000 characters)"
    assert visible("xxxxx", 5) == "xxxxx"
    assert legible("a b\n\tc 👩\u200d🔬") == "a b\n\tc 👩\u200d🔬"


@pytest.mark.parametrize("code_point", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_half_a_surrogate_pair_is_found(code_point: int) -> None:
    half = chr(code_point)
    assert half_surrogate(f"ab{half}c{half}") == 2
    with pytest.raises(UnicodeEncodeError):
        half.encode()
    # Python holds a character beyond the first plane as one, although UTF-16 needs two.
    assert half_surrogate("🗾 \ud7ff\ue000") is None
    assert half_surrogate("") is None


def test_names_are_sorted_by_the_numbers_in_them() -> None:
    names = ["L9.resid_post", "L18.head.3", "L18.head.12", "L18.resid_post", "epochs-3", "epochs-12", "twin"]
    plain = sorted(names)
    assert plain != names
    assert sorted(plain, key=natural_order) == names
    # Python refuses to convert strings of more than 4,300 digits to a number.
    assert sorted(["9" * 5000, "9" * 4999], key=natural_order) == ["9" * 4999, "9" * 5000]
