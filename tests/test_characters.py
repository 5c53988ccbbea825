"""Whatever stands in a text can be seen, and what no file could hold is found."""

from __future__ import annotations

import pytest

from crosspatch.characters import half_surrogate, legible, natural_order, visible


def test_whitespace_is_visible() -> None:
    assert visible(" add\n") == "␣add↵"
    assert visible("") == "(empty)"


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
def test_what_acts_unseen_is_named(token: str, shown: str) -> None:
    assert visible(token) == shown
    assert legible(token) == shown


def test_long_tokens_are_cut_and_it_is_said() -> None:
    assert visible("x" * 10_000, 5) == "xxxxx… (10,000 characters)"
    assert visible("xxxxx", 5) == "xxxxx"


def test_running_text_keeps_its_lines_and_emoji() -> None:
    assert legible("a b\n\tc 👩\u200d🔬") == "a b\n\tc 👩\u200d🔬"


@pytest.mark.parametrize("code_point", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_half_a_surrogate_pair_is_found_where_it_stands(code_point: int) -> None:
    half = chr(code_point)
    assert half_surrogate(f"ab{half}c{half}") == 2
    with pytest.raises(UnicodeEncodeError):
        half.encode()


def test_a_character_beyond_the_first_plane_is_no_half() -> None:
    # Python holds it as one character, whatever UTF-16 would need.
    assert half_surrogate("🗾 \ud7ff\ue000") is None
    assert half_surrogate("") is None


def test_names_are_sorted_by_the_numbers_in_them() -> None:
    names = ["L9.resid_post", "L18.head.3", "L18.head.12", "L18.resid_post", "epochs-3", "epochs-12", "twin"]
    plain = sorted(names)
    assert plain != names
    assert sorted(plain, key=natural_order) == names
    # Digits without end are no number that Python would refuse to read.
    assert sorted(["9" * 5000, "9" * 4999], key=natural_order) == ["9" * 4999, "9" * 5000]
