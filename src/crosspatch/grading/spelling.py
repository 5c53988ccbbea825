"""Converts mathematics in Unicode, LaTeX, markdown or plain words to one spelling.

There are two conversions. `typed` only replaces symbols one by one, so a line keeps its layout and can be quoted.
`one_spelling` converts everything to LaTeX and drops delimiters, markdown and spacing; answers are searched for in
its result.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_FUNCTIONS = "arcsin|arccos|arctan|sin|cos|tan|sec|csc|cot|sqrt|exp|ln|log|pi"
_SAID = re.compile(r"(?<![\w\\])([a-zA-Z]) (?:is equal to|equals|must be|is either|is) (?=[-\d\\(])")
_SIGNS = {"−": "-", "–": "-", "÷": "/", "⁄": "/"}
_TYPED = str.maketrans(
    _SIGNS
    | {
        "×": "*", "·": "*", "⋅": "*", "½": "(1/2)", "¼": "(1/4)", "¾": "(3/4)", "²": "^2 ", "³": "^3 ",
    }
)  # fmt: skip
_LATEX = str.maketrans(
    _SIGNS
    | {
        "\0": " ", "\r": "\n", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "π": r"\pi ",
        "√": "sqrt", "∞": r"\infty ", "±": r"\pm ", "≈": r"\approx ", "°": "", "′": "'", "’": "'",
        "∈": r"\in ",
        "`": " ", "&": " ", "“": " ", "”": " ", "€": " ", "£": " ", "¥": " ",
        "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}", "⟨": "(", "⟩": ")",
    }
)  # fmt: skip
# The rows and columns of a matrix, which must not be read as line breaks; the parser gets them back.
_ARRAY = re.compile(
    r"(?:\\left\s?)?(?:\\?[\[(]\s*)?\\begin\{array\}\s?\{[^{}]*\}(.*?)\\end\{array\}(?:\s*(?:\\right\s?)?\\?[\])])?",
    re.DOTALL,
)
_MATRIX = re.compile(r"\\begin\{[a-zA-Z]?matrix\*?\}.*?\\end\{[a-zA-Z]?matrix\*?\}", re.DOTALL)
_HELD = {r"\\": "\ue000", "&": "\ue001", "\n": " "}
MATRIX_SIGNS = str.maketrans({held: latex for latex, held in _HELD.items() if held != " "})
# Invisible characters, halves of surrogate pairs, and emoji and dingbats, which have no mathematical meaning.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\u20e3\ufe00-\ufe0f\ufeff\ud800-\udfff\ufffd]")
_ARROWS = re.compile("[\u2794\u2798-\u27af\u27b1-\u27be\u2b95\U0001f449]")
_PICTURES = re.compile("[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣⁿ", "0123456789-+xn")
_SPELLINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    # Thousands: 1{,}000, 1,\!000, 1\,000.
    (r"(?<=\d)(?:\{,\}|,\\[!, ]|\\[,: ]|~)\s?(?=\d{3}(?!\d))", ","),
    (r"(?<!\d)(\d{0,9})\.(\d{0,20})\\overline\s?\{(\d{1,20})\}", lambda m: _repeating(*m.groups())),
    (r"\{:\}", ":"),
    (r"\\(sin|cos|tan|sec|csc|cot)\s*(\()?(\d+)\s*\^\s?\{?\\circ\}?(?(2)\))", r"\\\1(\\frac{\3\\pi}{180})"),
    (r"(?<=[\d)\]}])(or|and)(?=[A-Z(\\]|[a-z][(=])", r" \1 "),
    (r"\\begin\{cases\}([^&]{0,300}?)\\end\{cases\}", r"\n\1\n"),
    (r"\\[dlc]?dots[a-z]?(?![a-zA-Z])", r"\\ldots "),
    (r"</?[a-z]{1,12}>", " "),
    (r"(=[^\n=(]{1,40}?) ?(?:→|⇒|⟹|=>|\\(?:implies|Rightarrow|to|rightarrow)(?![a-zA-Z])) ?", "\\1\n"),
    (r"\((?:or|about|approximately|or about|or approximately) ([^()\n]{1,60})\)", r"or \1"),
    (r"(?<![\d:.])(\d{1,6}) ?: ?(\d{1,6})(?![\d:])", r"\1:\2"),
    (r"(\bratio\b[^.\n]{0,60}?\b\d{1,6}) to (\d{1,6})\b", r"\1:\2"),
    (r"\\{3,}", " "),
    (r"[^\S\n]+", " "),
    (r" ?\n[\s]*", "\n"),
    (r"\\\\(?=[a-zA-Z]{2})", r"\\"),
    (r"\\\\(?:\[\d+pt\])?", "\n"),
    (r"\\(?:begin|end)\{(?:aligned|align\*?|equation\*?|gather\*?|split)\}", "\n"),
    (r"\\(?:text[a-z]*|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}", r" \1 "),
    (r"\^\{ ?(?:st|nd|rd|th) ?\}", ""),
    (r"~(?=\s?[a-zA-Z])", " "),
    (r"\\(?:left|right|displaystyle|bigg?|Bigg?)(?![a-zA-Z])|\\!", ""),
    (r"\\(?:quad|qquad|therefore|implies|Rightarrow|[,;: ])(?![a-zA-Z])|⇒|→|∴", " "),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\{,\}", ","),
    (r"\\\$|\$|\\[()\[\]]", " "),
    (r"\^\{?\\circ\}?|\\degree\b", ""),
    (r"(?<=[\w)])\*\*(?=[\d(])", "^"),
    (r"\*\*|__", " "),
    (r"(?<![\w)])\*(?=\S)|(?<=\S)\*(?![\w( ])", " "),
    (r"^ ?(?:#+|[-*•]|>+|\d{1,2}[.)]) (?=\S)", ""),
    (r"<=", r"\\leq "),
    (r">=", r"\\geq "),
    (r"!=", r"\\neq "),
    (r"\\lt(?![a-zA-Z])", "<"),
    (r"\\gt(?![a-zA-Z])", ">"),
    (r"\\[lr]angle(?![a-zA-Z])", lambda m: "(" if m[0][1] == "l" else ")"),
    (r"\ball (?:real numbers|reals)\b", r"\\mathbb{R}"),
    (r"(?<![\w.])\.(?=\d)", "0."),
    (r"(?<![\w.])(\d{1,9}(?:\.\d{1,9})?)[eE]([-+]?\d{1,2})(?!\w)", r"\1 \\times 10^{\2}"),
    (r"(?<![\w.,/])(\d{1,6}) (\d{1,6})/(\d{1,6})(?![\w/]|[.,]\d)", lambda m: _mixed(*map(int, m.groups()))),
    (r"(?<![\w.,/])(\d{1,9})/(\d{1,9})(?=[a-zA-Z](?![a-zA-Z]))", r"\\frac{\1}{\2}"),
    (r"(?<=\d)(?=(?:cm|mm|km|dm|kg|ft)(?![a-zA-Z]))", " "),
    (r"(?<![\d.,] )(?<![\d.,])(\d{1,3})((?: \d{3})+)(?! ?[\d.,]+\d)", lambda m: m[1] + m[2].replace(" ", "")),
    (r"\b[Ss]tep \d+\b:?", " "),
    (r"(?:\+/-|\+-|plus or minus)", r"\\pm "),
    (r"(?<!\d)(\d{1,9}) (?:times? )?(?:out of|in) (\d{1,9})(?!\d|\.\d)", r"\1/\2"),
    (r" ?\bpercent\b", "%"),
    # 1,000, but not the pair (12,102).
    (
        r"(?<![\d.,])(?<!\\\{)(?!0,)(?<![(\[](?=\d{1,3},\d{3}[)\]]))(\d{1,3})((?:,\d{3})+)(?!\d)",
        lambda m: m[1] + m[2].replace(",", ""),
    ),
    (rf"(?<![\\a-zA-Z])({_FUNCTIONS})(?![a-zA-Z])", r"\\\1 "),
    (r"\\sqrt ?\(([^()\n]{0,60})\)", r"\\sqrt{\1}"),
    (r"\\sqrt ?(\[\d+\])? ?(\d+)", r"\\sqrt\1{\2}"),
    (r"\\log(?![a-zA-Z_ ]*_)(?![a-zA-Z])", r"\\ln "),
    (r"\\log ?_\{?(\d{1,9}+)\}? ?(\w+)", r"\\log_{\1}(\2)"),
    (r"\^(-?\d+)", r"^{\1}"),
    (r"\^\(([^()\n]{0,60})\)", r"^{\1}"),
    (r"[^\S\n]+", " "),
    (r"^ ?(\d{1,6}) to (\d{1,6}) ?$", r"\1:\2"),
]


def typed(text: str) -> str:
    """Return the text with Unicode symbols in ASCII, `^2` for ², and everything else unchanged."""
    return text.translate(_TYPED)


def one_spelling(text: str) -> str:
    """Return the text with LaTeX for Unicode and plain words, without delimiters, spacing, markdown and emoji."""
    text = _PICTURES.sub(" ", _ARROWS.sub("→", _INVISIBLE.sub("", text)))
    text = re.sub("[⁰¹²³⁴-⁹⁻⁺ˣⁿ]+", lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub("[₀-₉]", lambda m: f"_{ord(m[0]) - ord('₀')}", text)
    text = re.sub("[\U0001d400-\U0001d7ff]", lambda m: unicodedata.normalize("NFKC", m[0]), text)
    text = re.sub("½|¼|¾", lambda m: {"½": " 1/2", "¼": " 1/4", "¾": " 3/4"}[m[0]], text)
    text = _ARRAY.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", text)
    text = _MATRIX.sub(lambda m: re.sub(r"\\\\|[&\n]", lambda sign: _HELD[sign[0]], m[0]), text)
    text = re.sub(r"([€£¥₹])\s?(\d[\d.,]*\d|\d)|^(\W*\\\$)\s?([\d.,]*\d)(?=\W*$)", _money, text)
    text = text.translate(_LATEX)
    for pattern, replacement in _SPELLINGS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return _SAID.sub(r"\1 = ", text)


def _money(match: re.Match[str]) -> str:
    """Write €5 as 5 euros, and a text that is only \\$5 as 5 dollars; other dollar signs are delimiters."""
    names = {"€": "euros", "£": "sterling", "¥": "yen", "₹": "rupees"}
    return f"{match[2]} {names[match[1]]}" if match[1] else f"{match[4]} dollars"


def _mixed(whole: int, over: int, under: int) -> str:
    """Convert `1 1/2` to one fraction; `12 6/3` is not a mixed number."""
    return rf"\frac{{{whole * under + over}}}{{{under}}}" if 0 < over < under else f"{whole} {over}/{under}"


def _repeating(whole: str, start: str, period: str) -> str:
    """Convert 0.1\\overline{6} to a fraction."""
    nines = (10 ** len(period) - 1) * 10 ** len(start)
    return rf"\frac{{{int(f'{whole}{start}{period}') - int(f'{whole}{start}' or 0)}}}{{{nines}}}"


def without_commands(latex: str) -> str:
    """Return the text without LaTeX commands, whose names are not words."""
    return re.sub(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+", " ", latex)
