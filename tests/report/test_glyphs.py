"""Model output is shown whole, and never acts."""

from __future__ import annotations

import pytest

from crosspatch.report.glyphs import drawable, legible, plotly_label, tick_label, visible


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


def test_tick_labels_are_cut_without_words() -> None:
    assert tick_label(" Subtracting", 12) == "␣Subtracting"
    assert tick_label(" Subtractingly", 12) == "␣Subtracting…"


def test_running_text_keeps_its_lines_and_emoji() -> None:
    assert legible("a b\n\tc 👩\u200d🔬") == "a b\n\tc 👩\u200d🔬"


def test_plotly_gets_no_markup_and_no_mathematics() -> None:
    assert plotly_label("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
    assert "$" not in plotly_label("$x$")


def test_missing_glyphs_are_boxes() -> None:
    assert drawable("x 日🗾\n−é") == "x ▯▯\n−é"
