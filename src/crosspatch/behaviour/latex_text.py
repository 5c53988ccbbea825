"""One spelling of mathematics in a text: LaTeX in place of Unicode, plain words and markdown.

Knows nothing of what the mathematics means, nor which of it is an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_FUNCTIONS = "arcsin|arccos|arctan|sin|cos|tan|sec|csc|cot|sqrt|exp|ln|log|pi"
_SAID = re.compile(r"(?<![\w\\])([a-zA-Z]) (?:is equal to|equals|must be|is) (?=[-\d\\(])")
_CHARACTERS = str.maketrans(
    {
        "\0": " ", "\r": "\n", "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ",
        "√": "sqrt", "∞": r"\infty ", "±": r"\pm ", "≈": r"\approx ", "°": "", "′": "'", "’": "'",
        "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "∈": r"\in ",
        "`": " ", "&": " ", "“": " ", "”": " ",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣⁿ", "0123456789-+xn")
_SPELLINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\\{3,}", " "),
    (r"[^\S\n]+", " "),
    (r" ?\n[\s]*", "\n"),
    (r"\\\\(?=[a-zA-Z]{2})", r"\\"),
    (r"\\\\(?:\[\d+pt\])?", "\n"),
    (r"\\(?:begin|end)\{(?:aligned|align\*?|equation\*?|gather\*?|split)\}", "\n"),
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}", r" \1 "),
    (r"\\(?:left|right|displaystyle|bigg?|Bigg?)(?![a-zA-Z])|\\!", ""),
    (r"\\(?:quad|qquad|therefore|implies|Rightarrow|[,;: ])(?![a-zA-Z])|⇒|→|∴", " "),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\{,\}", ","),
    (r"\\\$|\$|\\[()\[\]]", " "),
    (r"\^\{?\\circ\}?|\\degree\b", ""),
    (r"(?<=[\w)])\*\*(?=[\d(])", "^"),
    (r"\*\*|__", " "),
    (r"(?<![\w)])\*(?=\S)|(?<=\S)\*(?![\w( ])", " "),
    (r"^ ?(?:#+|[-*•]|\d{1,2}[.)]) (?=\S)", ""),
    (r"\b[Ss]tep \d+\b:?", " "),
    (r"(?:\+/-|\+-|plus or minus)", r"\\pm "),
    (r"(?<!\d)(\d{1,9}) (?:out of|in) (\d{1,9})(?![\d.])", r"\1/\2"),
    (r" ?\bpercent\b", "%"),
    (r"(?<![\d.,])(?<!\\\{)(\d{1,3})((?:,\d{3})+)(?![\d])", lambda m: m[1] + m[2].replace(",", "")),
    (rf"(?<![\\a-zA-Z])({_FUNCTIONS})(?![a-zA-Z])", r"\\\1 "),
    (r"\\sqrt ?\(([^()\n]{0,60})\)", r"\\sqrt{\1}"),
    (r"\\sqrt ?(\d+)", r"\\sqrt{\1}"),
    (r"\\log(?![a-zA-Z_])", r"\\ln "),
    (r"\^(-?\d+)", r"^{\1}"),
    (r"\^\(([^()\n]{0,60})\)", r"^{\1}"),
    (r"[^\S\n]+", " "),
]


def one_spelling(text: str) -> str:
    """The text with LaTeX in place of Unicode and plain words, without delimiters, spacing and markdown."""
    text = re.sub("[⁰¹²³⁴-⁹⁻⁺ˣⁿ]+", lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _SPELLINGS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return _SAID.sub(r"\1 = ", text)


def without_commands(latex: str) -> str:
    """What is left without LaTeX commands, whose names are no words."""
    return re.sub(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+", " ", latex)
