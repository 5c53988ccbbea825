r"""Finds malformed LaTeX: delimiters that are not closed, and formulas that cannot be parsed.

Delimiters (`$`, `$$`, `\(`, `\[`, braces, `\left`, `\begin`) are read in one pass, ignoring the text between them.
Formulas are parsed by matplotlib's mathtext, after LaTeX that it does not support has been rewritten.
Examples of errors: `\frac{1}` without its second argument, `x^^2`, and commands that do not exist.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

_MOST = 5  # the maximum number of reasons for one text
_DELIMITER = re.compile(
    r"\\(?P<edge>begin|end)\s?\{(?P<environment>[^{}\n]{0,40})\}"
    r"|\\(?P<side>left|right)(?![a-zA-Z])[ ]?(?:\\(?:[a-zA-Z]+|.)|[^\s\\{}$])?"
    r"|(?P<argument>\\[a-zA-Z]+[ ]?\{)|\\[a-zA-Z]+|(?P<bracket>\\[()\[\]])|\\."
    r"|(?P<dollars>\$\$?)|(?P<brace>[{}])|(?P<blank>\n[ \t\r]*\n)",
    re.DOTALL,
)
_MONEY = re.compile(r"\$\d[\d,]*(?:\.\d+)?(?=[.,;:!?)]*(?:\s+(?:[^\W\d_]{2}|a\b)|[ \t]*(?:\n|\Z)))")
# Inside of these commands, dollars open mathematics again.
_WORDS = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|hbox|parbox|footnote)[ ]?\{")
_PARTNER = {r"\)": r"\(", r"\]": r"\[", "}": "{", r"\right": r"\left"}


def unclosed(text: str) -> list[str]:
    r"""Return at most five delimiters that are not closed, such as "\boxed{ is not closed"; empty if there are none.

    `\$` and an amount of money without a second `$` on its line are no delimiters. A blank line ends `$` and `\(`.
    """
    reader = _Reader(text)
    for match in _DELIMITER.finditer(text):
        reader.take(match)
    reader.close_to(0)
    return list(dict.fromkeys(reader.reasons))[:_MOST]


@dataclass
class _Reader:
    """The open delimiters, and the errors found so far."""

    text: str
    reasons: list[str] = field(default_factory=list)
    open: list[tuple[str, str]] = field(default_factory=list)  # kind, and the delimiter as written
    kinds: Counter[str] = field(default_factory=Counter)
    modes: list[int] = field(default_factory=list)  # indices in `open` of $, $$, \(, \[ and text commands

    def take(self, match: re.Match[str]) -> None:
        token = match.group()
        if match["edge"]:
            name = match["environment"]
            kind = rf"\begin{{{name}}}"
            self.push(kind, kind) if match["edge"] == "begin" else self.close(kind, rf"\end{{{name}}}")
        elif match["side"]:
            side = rf"\{match['side']}"
            self.push(side, side) if side == r"\left" else self.close(r"\left", side)
        elif match["argument"]:
            self.push("{", token if len(token) <= 20 else f"{token[:20]}…", mode=_WORDS.fullmatch(token) is not None)
        elif match["bracket"]:
            self.close(_PARTNER[token], token) if token in _PARTNER else self.push(token, token, mode=True)
        elif match["dollars"]:
            self.dollars(token, match.start())
        elif match["brace"]:
            self.push("{", "{") if token == "{" else self.close("{", "}")
        elif match["blank"] and self.mode in ("$", r"\("):
            self.close_to(self.modes[-1])

    @property
    def mode(self) -> str:
        """The innermost open mathematics delimiter; "{" inside a text command, "" outside of mathematics."""
        return self.open[self.modes[-1]][0] if self.modes else ""

    def dollars(self, token: str, place: int) -> None:
        mode = self.mode
        if mode == token:
            self.close(token, token)
        elif mode in ("", "{"):
            if not (token == "$" and self.money(place)):
                self.push(token, token, mode=True)
        elif mode == "$":  # $a$$b$
            self.close("$", "$")
            self.push("$", "$", mode=True)
        elif mode == "$$":
            self.reasons.append("$$ is closed by $")
            self.close_to(self.modes[-1], silent_last=True)
        else:
            self.reasons.append(rf"{token} stands inside of {mode}")

    def money(self, place: int) -> bool:
        """Whether a dollar sign precedes an amount and has no second dollar sign on its line."""
        amount = _MONEY.match(self.text, place)
        if not amount:
            return False
        end = self.text.find("\n", place)
        return self.text.find("$", amount.end(), end if end >= 0 else len(self.text)) < 0

    def push(self, kind: str, written: str, mode: bool = False) -> None:
        if mode:
            self.modes.append(len(self.open))
        self.open.append((kind, written))
        self.kinds[kind] += 1

    def close(self, kind: str, by: str) -> None:
        """Close the last open delimiter of a kind; delimiters opened after it are reported as not closed."""
        if not self.kinds[kind]:
            self.reasons.append(f"{by} closes nothing")
            return
        place = len(self.open) - 1
        while self.open[place][0] != kind:
            place -= 1
        self.close_to(place, silent_last=True)

    def close_to(self, place: int, silent_last: bool = False) -> None:
        """Remove the open delimiters from `place` on and report them, except the first one if `silent_last`."""
        for i in range(len(self.open) - 1, place - 1, -1):
            kind, written = self.open.pop()
            self.kinds[kind] -= 1
            if not (silent_last and i == place):
                self.reasons.append(f"{written} is not closed")
        while self.modes and self.modes[-1] >= place:
            self.modes.pop()


# Limits on formulas in one text: without them, a text that repeats formulas would take minutes.
_LONGEST, _MOST_FORMULAS = 400, 60

_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>.+?)(?<!\\)\$\$|(?<!\\)\$(?P<inline>[^$\n]+?)(?<!\\)\$"
    r"|\\\[(?P<bracket>.+?)\\\]|\\\((?P<round>.+?)\\\)",
    re.DOTALL,
)
_ARGUMENT = r"\s*(\{(?:[^{}]|\{[^{}]*\})*\}|\\[a-zA-Z]+|[^\s{}\\])"
# Rewrites LaTeX that the parser does not support as LaTeX that it supports.
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
# Text commands need no parsing, and may contain characters that mathematics may not.
_MATHRM = re.compile(r"\\mathrm\s*\{([^{}\\^_]*)\}")


def unparsable(text: str) -> int:
    """Count invalid formulas among the first 60; formulas of over 400 characters are skipped."""
    formulas = [
        match[match.lastgroup or 0] for match, _ in zip(_FORMULA.finditer(text), range(_MOST_FORMULAS), strict=False)
    ]
    return sum(not _parses(formula.strip()) for formula in formulas if len(formula) <= _LONGEST)


@lru_cache(maxsize=10_000)
def _parses(formula: str) -> bool:
    for pattern, known in _KNOWN:
        formula = pattern.sub(known, formula)
    formula = " ".join(_MATHRM.sub(r"{\\mathrm{w}}", formula).split())
    try:
        if formula:
            _parser().parse(f"${formula}$")
    except ValueError:
        return False
    return True


@cache
def _parser() -> Any:
    from matplotlib.mathtext import MathTextParser

    # The parser warns about characters missing in its font; nothing is rendered here.
    logging.getLogger("matplotlib.mathtext").addFilter(lambda record: False)
    return MathTextParser("path")
