"""What notebooks show: whatever is in a name or a token, nothing in a card acts, and nothing is shown as it is not."""

import pytest

from crosspatch.html_repr import LIMIT, Bar, HtmlRepr, Strip, Table, listed, shown
from html_reader import HALF, HOSTILE, Reader, tame


@pytest.mark.parametrize("text", [*HOSTILE, HALF])
def test_nothing_in_a_text_acts_wherever_it_stands(text: str) -> None:
    table = Table([text, text], [[text, Bar(0.5)]], text, text)
    strip = Strip(text, [text, text], [Bar(1), Bar(0)], [text, text])
    page = HtmlRepr(text, [(text, text)], [table, strip], [text]).html
    assert tame(page)
    assert len(page) < 20_000


@pytest.mark.parametrize("acts", ["<script>alert(1)</script>", '<div onmouseover="alert(1)"></div>', "\u202e"])
def test_what_acts_would_be_noticed(acts: str) -> None:
    assert not tame(f"<div>{acts}</div>")


def test_texts_are_cut_and_it_is_said() -> None:
    assert shown("abc") == "<bdi>abc</bdi>"
    assert shown("x" * (LIMIT + 1)).endswith(f"x</bdi>… ({LIMIT + 1} characters)")
    assert shown("a\nb\tc") == "<bdi>a b c</bdi>"
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    # What stands under the pointer is no markup.
    strip = Strip("t", ["a", "b"], [Bar(1), Bar(0)], ['L0 <x> "y"', "plain"])
    assert 'title="L0 &lt;x&gt; &quot;y&quot;"' in strip.html
    assert 'title="plain"' in strip.html


@pytest.mark.parametrize(
    ("value", "number", "share"),
    [(None, "undefined", 0), (0.5, "0.50", 50), (-0.25, "−0.25", 25), (7.0, "7.00", 100), (-0.001, "0.00", 0.1)],
)
def test_bars_have_their_numbers(value: float | None, number: str, share: float) -> None:
    bar = Bar(value)
    assert (bar.number, pytest.approx(bar.share)) == (number, share)
    assert number in Reader(Table(["a", "b"], [["c", bar]]).html).text
    # Above and below nothing have two colours.
    assert Bar(-0.5).colour != Bar(0.5).colour == Bar(2.0).colour


def test_a_card_is_no_mathematics_to_a_notebook_and_a_fold_hides_nothing_for_good() -> None:
    assert "mathjax_ignore tex2jax_ignore" in Reader(HtmlRepr("$x$").html).of("class")
    read = Reader(Table(["claim"], [["it holds"]], fold="1 claim").html)
    assert read.tags.keys() >= {"details", "summary"}
    assert "it holds" in read.text
    assert "details" not in Reader(Table(["claim"], [["it holds"]]).html).tags
