"""Labels show what a token is, and nothing in them acts."""

from __future__ import annotations

from crosspatch.report.pictures.glyphs import drawable


def test_tick_labels_are_cut_without_words() -> None:
    assert tick_label(" Subtracting", 12) == "␣Subtracting"
    assert tick_label(" Subtractingly", 12) == "␣Subtracting…"


def test_plotly_gets_no_markup_and_no_mathematics() -> None:
    assert plotly_label("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
    assert "$" not in plotly_label("$x$")


def test_missing_glyphs_are_boxes() -> None:
    assert drawable("x 日🗾\n−é") == "x ▯▯\n−é"
