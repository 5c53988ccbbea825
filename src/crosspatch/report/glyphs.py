"""Model output made showable: every character visible, none of it markup, none of it missing from the font.

Tokens and answers come out of models and may hold anything: control characters, marks that turn the reading
direction, half a surrogate pair, HTML, `$` signs. Knows nothing of charts or pages.
"""

from __future__ import annotations

import html
import unicodedata
from functools import cache

TOKEN_LIMIT = 32

# Names of the whitespace that ends up in labels; other invisible characters are shown by their code point.
_WHITESPACE = {" ": "␣", "\n": "↵", "\t": "⇥"}
# Kept in running text, where they only shape the letters beside them: zero-width (non-)joiner.
_JOINERS = "\u200c\u200d"
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def visible(token: str, limit: int = TOKEN_LIMIT) -> str:
    """A token on one line with its whitespace visible, cut to about `limit` characters, cut said."""
    if not token:
        return "(empty)"
    shown = "".join(_WHITESPACE.get(char) or _code_point(char) for char in token[:limit])
    return shown if len(token) <= limit else f"{shown}… ({len(token):,} characters)"


def tick_label(token: str, limit: int = 12) -> str:
    """A token as it stands under an axis: cut short, an ellipsis for the rest."""
    return visible(token[:limit]) + ("…" if len(token) > limit else "")


def legible(text: str) -> str:
    """Running text with its spaces and line breaks, and whatever else would act unseen made visible."""
    return "".join(char if char in " \n\t\xa0" or char in _JOINERS else _code_point(char) for char in text)


def plotly_label(token: str, limit: int = TOKEN_LIMIT) -> str:
    """A token as plotly shall show it: plotly reads tags, entities and, where MathJax is loaded, `$…$`."""
    return plotly_text(visible(token, limit))


def plotly_name(text: str, limit: int = 60) -> str:
    """A name (a run, a domain) as plotly shall show it, its spaces as they are."""
    shown = legible(text.replace("\n", " ")[:limit]) + ("…" if len(text) > limit else "")
    return plotly_text(shown)


def plotly_text(text: str) -> str:
    """Text that was made visible, with nothing left for plotly to read."""
    return html.escape(text, quote=False).replace("$", "&#36;")


def drawable(text: str) -> str:
    """Text in which matplotlib's own font has every glyph; a box stands for the others (emoji, CJK)."""
    known = _font_glyphs()
    return "".join(char if char == "\n" or ord(char) in known else "▯" for char in text)


def _code_point(char: str) -> str:
    return f"⟨U+{ord(char):04X}⟩" if unicodedata.category(char) in _INVISIBLE else char


@cache
def _font_glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    # DejaVu Sans comes with matplotlib, so the figures look the same everywhere.
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
