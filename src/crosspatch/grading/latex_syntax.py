r"""Formulas that are no LaTeX: `\frac{1}` without its second part, `x^^2`, commands that do not exist.

matplotlib's parser of mathematics is asked, after what it does not know of LaTeX has been put in words that it knows.
What does not close is not looked at here (see `latex_balance`).
"""

from __future__ import annotations

import logging
import re
from functools import cache, lru_cache
from typing import Any

# Longer formulas, and more of them in one text, are passed over: a loop of formulas would take minutes.
_LONGEST, _MOST = 400, 60

_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>.+?)(?<!\\)\$\$|(?<!\\)\$(?P<inline>[^$\n]+?)(?<!\\)\$"
    r"|\\\[(?P<bracket>.+?)\\\]|\\\((?P<round>.+?)\\\)",
    re.DOTALL,
)
_ARGUMENT = r"\s*(\{(?:[^{}]|\{[^{}]*\})*\}|\\[a-zA-Z]+|[^\s{}\\])"
# LaTeX that the parser does not know, in what it does know.
_KNOWN = [
    (re.compile(r"\\(?:begin|end)\{[a-zA-Z]+\*?\}(?:\{[lcr|]+\})?"), " "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(rf"\\(frac|binom)(?![a-zA-Z]){_ARGUMENT}{_ARGUMENT}"), r"\\\1{\2}{\3}"),
    (re.compile(rf"\\sqrt(?![a-zA-Z]){_ARGUMENT}"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:boxed|fbox|tag\*?|label|textbf|textit|emph|mbox|textrm|operatorname\*?)(?=\s*\{)"), r"\\mathrm"),
    (re.compile(r"\\text(?=\s*\{)"), r"\\mathrm"),
    (
        re.compile(
            r"\\(?:displaystyle|textstyle|limits|nolimits|hline|space|nonumber|notag|phantom\{\}|hfill)(?![a-zA-Z])"
        ),
        " ",
    ),
    (re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])"), " "),
    (re.compile(r"\\(?:implies|impliedby|iff|Longrightarrow|Longleftrightarrow)(?![a-zA-Z])"), r"\\Rightarrow "),
    (re.compile(r"\\[lr][vV]ert(?![a-zA-Z])"), "|"),
    (re.compile(r"\\(?:h|v)space\*?\s*\{[^{}]*\}"), " "),
    (re.compile(r"\\(?:cancel|overset|underset|underbrace|overbrace|xrightarrow)(?![a-zA-Z])"), r"\\mathrm"),
    (re.compile(r"\\\\(?:\[[^\]]*\])?"), " "),
    (re.compile(r"\\(?:l|c|d)dots(?![a-zA-Z])|\\dots[a-z]?(?![a-zA-Z])"), r"\\ldots "),
    (re.compile(r"\\[pb]?mod(?![a-zA-Z])"), " "),
    (re.compile(r"[&~]"), " "),
]
# Words need no parsing, and may hold what is nothing in mathematics.
_WORDS = re.compile(r"\\mathrm\s*\{([^{}\\^_]*)\}")


def unparsable(text: str) -> int:
    """How many formulas of a text are no LaTeX, of the first 60; one of over 400 characters is passed over."""
    formulas = [match[match.lastgroup or 0] for match, _ in zip(_FORMULA.finditer(text), range(_MOST), strict=False)]
    return sum(not _parses(formula.strip()) for formula in formulas if len(formula) <= _LONGEST)


@lru_cache(maxsize=10_000)
def _parses(formula: str) -> bool:
    for pattern, known in _KNOWN:
        formula = pattern.sub(known, formula)
    formula = " ".join(_WORDS.sub(r"{\\mathrm{w}}", formula).split())
    try:
        if formula:
            _parser().parse(f"${formula}$")
    except ValueError:
        return False
    return True


@cache
def _parser() -> Any:
    from matplotlib.mathtext import MathTextParser

    # It says which characters its font lacks; nothing is drawn here.
    logging.getLogger("matplotlib.mathtext").addFilter(lambda record: False)
    return MathTextParser("path")
