"""Every character of a text can be seen, and half a surrogate pair, which no file can hold, is found."""

from crosspatch.characters import half_surrogate, legible, natural_order, visible


def test_invisible_characters_are_named_and_tokens_show_whitespace_and_are_cut_but_texts_keep_lines_and_emoji() -> None:
    shown = {"\x00": "⟨U+0000⟩", "\u202eab": "⟨U+202E⟩ab", "\ud800": "⟨U+D800⟩", "\u2028": "⟨U+2028⟩", "é": "é"}
    assert {token: visible(token) for token in shown} == {token: legible(token) for token in shown} == shown
    assert visible(" add\n") == "␣add↵"
    assert visible("") == "(empty)"
    assert visible("x" * 10_000, 5) == "xxxxx… (10,000 characters)"
    assert visible("xxxxx", 5) == "xxxxx"
    assert legible("a b\n\tc 👩\u200d🔬") == "a b\n\tc 👩\u200d🔬"


def test_half_a_surrogate_pair_is_found() -> None:
    for half in "\ud800\udbff\udc00\udfff":
        assert half_surrogate(f"ab{half}c{half}") == 2
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
