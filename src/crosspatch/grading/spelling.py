"""Converts mathematics in Unicode, LaTeX, markdown or plain words to one spelling.

There are two conversions. `typed` only replaces symbols one by one, so a line keeps its layout and can be quoted.
`one_spelling` converts everything to LaTeX and drops delimiters, markdown and spacing; answers are searched for in
its result.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from sympy import latex
from sympy.parsing.sympy_parser import parse_expr

_SIGNS = {"−": "-", "–": "-", "÷": "/", "⁄": "/"}
_TYPED = str.maketrans(
    _SIGNS
    | {
        "×": "*", "·": "*", "⋅": "*", "½": "(1/2)", "¼": "(1/4)", "¾": "(3/4)", "²": "^2 ", "³": "^3 ",
    }
)  # fmt: skip
_LATEX = str.maketrans(
    _SIGNS
    | {chr(ord("₀") + digit): f"_{digit}" for digit in range(10)}
    | {
        "\0": " ", "\r": "\n", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "π": r"\pi ",
        "√": "sqrt", "∞": r"\infty ", "±": r"\pm ", "≈": r"\approx ", "°": "", "′": "'", "’": "'",
        "∈": r"\in ", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "`": " ", "“": " ", "”": " ",
        "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}", "⟨": "(", "⟩": ")", "。": ". ", "：": ":", "，": ", ",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣⁿ", "0123456789-+xn")
_MULTIPLES = {"thousand": "1000", "million": "10^{6}", "billion": "10^{9}", "trillion": "10^{12}", "dozen": "12"}
_MONEY = {"€": "euros", "£": "sterling", "¥": "yen", "₹": "rupees"}
# The signs of a matrix's rows and columns, which must not be read as line breaks, and the ! of a factorial, which is no
# punctuation. The parser gets them back.
_HELD = {r"\\": "\ue000", "&": "\ue001", "!": "\ue002"}
HELD_SIGNS = str.maketrans({held: latex for latex, held in _HELD.items()})
_SPELLINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    # Invisible characters, and halves of surrogate pairs.
    ("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\u20e3\ufe00-\ufe0f\ufeff\ud800-\udfff\ufffd]", ""),
    ("[⁰¹²³⁴-⁹⁻⁺ˣⁿ]+", lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}"),
    ("[\U0001d400-\U0001d7ff]", lambda m: unicodedata.normalize("NFKC", m[0])),
    (
        r"\\begin\{(?:[a-zA-Z]?matrix\*?|array)\}(?s:.*?)\\end\{(?:[a-zA-Z]?matrix\*?|array)\}",
        lambda m: re.sub(r"\\\\|[&\n]", lambda sign: _HELD.get(sign[0], " "), m[0]),
    ),
    (r"([€£¥₹])\s?(\d[\d.,]*\d|\d)", lambda m: f"{m[2]} {_MONEY[m[1]]}"),
    # A text that is only \$5; other dollar signs are delimiters.
    (r"\A\W*\\\$\s?([\d.,]*\d)(?=\W*\Z)", r"\1 dollars"),
    (r"[€£¥&]", " "),
    # Thousands: 1{,}000, 1,\!000, 1\,000.
    (r"(?<=\d)(?:\{,\}|,\\[!, ]|\\[,: ]|~)\s?(?=\d{3}(?!\d))", ","),
    (r"(?<!\d)(\d{1,9}\.\d{0,20})\\overline\s?\{(\d{1,20})\}", lambda m: latex(parse_expr(f"{m[1]}[{m[2]}]"))),
    (r"\{:\}", ":"),
    (r"\\(sin|cos|tan|sec|csc|cot)\s*(\()?(\d+)\s*\^\s?\{?\\circ\}?(?(2)\))", r"\\\1(\\frac{\3\\pi}{180})"),
    (r"\\begin\{cases\}([^&]{0,300}?)\\end\{cases\}", r"\n\1\n"),
    (r"\\[dlc]?dots[a-z]?(?![a-zA-Z])", r"\\ldots "),
    (r"</?[a-z]{1,12}>", " "),
    # An implication begins a new line.
    (
        r"(=[^\n=(]{1,40}?) ?(?:[→⇒⟹➔➘-➯➱-➾⮕👉]|=>|\\(?:implies|Rightarrow|to|rightarrow)(?![a-zA-Z])) ?",
        "\\1\n",
    ),
    # Emoji and dingbats.
    ("[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]", " "),
    (r"\((?:or|about|approximately|or about|or approximately) ([^()\n]{1,60})\)", r"or \1"),
    (r"(?<![\d:.])(\d{1,6}) ?: ?(\d{1,6})(?![\d:])", r"\1:\2"),
    (r"[^\S\n]+", " "),
    (r" ?\n\s*", "\n"),
    (r"\\\\(?=[a-zA-Z]{2})", r"\\"),
    (r"\\\\(?:\[\d+pt\])?|\\(?:begin|end)\{(?:aligned|align\*?|equation\*?|gather\*?|split)\}", "\n"),
    (r"\\(?:text[a-z]*|math(?:rm|bf|it|sf)|mbox|operatorname|underline|bold[a-z]*|emph)\s?\{([^{}]*)\}", r" \1 "),
    (r"\\(?:rm|bf|it|large|Large|color\s?\{\w+\})(?![a-zA-Z])", ""),
    (r"\^\{ ?(?:st|nd|rd|th) ?\}|\\(?:left|right|displaystyle|bigg?|Bigg?)(?![a-zA-Z])|\\!|\^\{?\\circ\}?", ""),
    (r"\\(?:(?:quad|qquad|therefore|implies|Rightarrow)(?![a-zA-Z])|[,;: ])|[⇒→∴]|~(?=\s?[a-zA-Z])", " "),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\frac (\w) (\w)(?!\w)", r"\\frac{\1}{\2}"),
    (r"(?<=[\w)])\*\*(?=[\d(])", "^"),
    (r"(?<=[\w)])!(?=\s?(?:\$|\\[)\]]))", _HELD["!"]),
    # Delimiters and markdown.
    (r"\\\$|\$|\\[()\[\]]|\*\*|__|(?<![\w)])\*(?=\S)|(?<=\S)\*(?![\w( ])|\b[Ss]tep \d+\b:?", " "),
    (r"!=", r"\\neq "),
    (r"\b(?:negative|minus) (?=\d)", "-"),
    (r"(?<=\d) +(thousand|million|billion|trillion|dozen)\b", lambda m: rf" \times {_MULTIPLES[m[1]]}"),
    (r"\\([lr])angle(?![a-zA-Z])", lambda m: "(" if m[1] == "l" else ")"),
    (r"\ball (?:real numbers|reals)\b", r"\\mathbb{R}"),
    (r"(?<![\w.])\.(?=\d)", "0."),
    (r"(?<![\w.])(\d{1,9}(?:\.\d{1,9})?)[eE]([-+]?\d{1,2})(?!\w)", r"\1 \\times 10^{\2}"),
    (r"(?<![\w.,/])(\d{1,6}) (\d{1,6})/(\d{1,6})(?![\w/]|[.,]\d)", r"\1\\frac{\2}{\3}"),
    (r"(?<![\w.,/])(\d{1,9})/(\d{1,9})(?=[a-zA-Z](?![a-zA-Z]))", r"\\frac{\1}{\2}"),
    (r"(?<=\d)(?=(?:cm|mm|km|dm|kg|ft)(?![a-zA-Z]))", " "),
    (r"\+/-|\+-|plus or minus", r"\\pm "),
    (r"(?<!\d)(\d{1,9}) (?:times? )?(?:out of|in) (\d{1,9})(?!\d|\.\d)", r"\1/\2"),
    (r" ?\bpercent\b", "%"),
    # 1,000 and 1 000, but not the pair (12,102).
    (
        r"(?<![\d.,])(?<!\\\{)(?!0,)(?<![(\[](?=\d{1,3},\d{3}[)\]]))(\d{1,3})((?:,\d{3})+|(?: \d{3})+)(?!\d)",
        lambda m: m[1] + re.sub("[, ]", "", m[2]),
    ),
    (r"(?<![\\a-zA-Z])(arcsin|arccos|arctan|sin|cos|tan|sec|csc|cot|sqrt|exp|ln|log|pi)(?![a-zA-Z])", r"\\\1 "),
    (r"\\sqrt ?\(([^()\n]{0,60})\)", r"\\sqrt{\1}"),
    (r"\\sqrt ?(\[\d+\])? ?(\d+)", r"\\sqrt\1{\2}"),
    (r"\\log(?![a-zA-Z_ ]*_)(?![a-zA-Z])", r"\\ln "),
    (r"\\log ?_\{?(\d{1,9}+)\}? ?(\w+)", r"\\log_{\1}(\2)"),
    (r"\^(-\d+)", r"^{\1}"),
    (r"[^\S\n]+", " "),
    (r"(\bratio\b[^.\n]{0,60}?\b\d{1,6}|^ ?\d{1,6}) to (\d{1,6})(?=\W*$)", r"\1:\2"),
    (r"(?<![\w\\])([a-zA-Z]) (?:is equal to|equals|must be|is either|is) (?=[-\d\\(])", r"\1 = "),
]


def typed(text: str) -> str:
    """Return the text with Unicode symbols in ASCII, `^2` for ², and everything else unchanged."""
    return text.translate(_TYPED)


def one_spelling(text: str) -> str:
    """Return the text with LaTeX for Unicode and plain words, without delimiters, spacing, markdown and emoji."""
    text = text.translate(_LATEX)
    for pattern, replacement in _SPELLINGS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def without_commands(latex: str) -> str:
    """Return the text without LaTeX commands, whose names are not words."""
    return re.sub(r"\\(?:begin|end)\{\w+\}(?:\{[lcr|]+\})?|\\[a-zA-Z]+", " ", latex)
