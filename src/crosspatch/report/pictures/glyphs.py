"""Labels that the drawing libraries show as they are: nothing in them markup, no glyph missing from the font.

Tokens and answers come out of models and may hold anything, HTML and `$` signs too. Knows nothing of charts or pages.
"""

from __future__ import annotations

import html
from functools import cache

from crosspatch.characters import TOKEN_LIMIT, legible, visible


def tick_label(token: str, limit: int = 12) -> str:
    """A token as it stands under an axis: cut short, an ellipsis for the rest."""
    return visible(token[:limit]) + ("…" if len(token) > limit else "")


def plotly_label(token: str, limit: int = TOKEN_LIMIT) -> str:
    """A token as plotly shall show it: plotly reads tags, entities and, where MathJax is loaded, `$…$`."""
    return plotly_text(visible(token, limit))


def plotly_name(text: str, limit: int = 60) -> str:
    """A name (a run, a domain) as plotly shall show it, its spaces as they are."""
    shown = legible(text.replace("\n", " ")[:limit]) + ("…" if len(text) > limit else "")
    return plotly_text(shown)


def plotly_text(text: str) -> str:
    """Text that was made visible, with nothing left for plotly to read."""
    return html.escape(text, quote=False).replace("$", "&#36;").replace("%{", "%&#123;")


def drawable(text: str) -> str:
    """Text in which matplotlib's own font has every glyph; a box stands for the others (emoji, CJK)."""
    known = _font_glyphs()
    return "".join(char if char == "\n" or ord(char) in known else "▯" for char in text)


@cache
def _font_glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    # DejaVu Sans comes with matplotlib, so the figures look the same everywhere.
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
