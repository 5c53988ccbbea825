r"""LaTeX that is opened and not closed, or the other way round: `$`, `$$`, `\(`, `\[`, braces, `\left`, `\begin`.

Reads delimiters only, in one pass; whether the mathematics between them makes sense is not known here.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

_MOST = 5  # reasons given for one text
_DELIMITER = re.compile(
    r"\\(?P<edge>begin|end)\s?\{(?P<environment>[^{}\n]{0,40})\}"
    r"|\\(?P<side>left|right)(?![a-zA-Z])[ ]?(?:\\(?:[a-zA-Z]+|.)|[^\s\\{}$])?"
    r"|(?P<argument>\\[a-zA-Z]+[ ]?\{)|\\[a-zA-Z]+|(?P<bracket>\\[()\[\]])|\\."
    r"|(?P<dollars>\$\$?)|(?P<brace>[{}])|(?P<blank>\n[ \t\r]*\n)",
    re.DOTALL,
)
_MONEY = re.compile(r"\$\d[\d,]*(?:\.\d+)?(?=[.,;:!?)]*(?:\s+(?:[^\W\d_]{2}|a\b)|[ \t]*(?:\n|\Z)))")
# In what stands in these, dollars open mathematics again.
_WORDS = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|hbox|parbox|footnote)[ ]?\{")
_PARTNER = {r"\)": r"\(", r"\]": r"\[", "}": "{", r"\right": r"\left"}


def unclosed(text: str) -> list[str]:
    r"""What does not close, at most five reasons, such as "\boxed{ is not closed"; empty where all does.

    `\$` is no delimiter, nor is an amount of money without a partner on its line. A blank line ends `$` and `\(`.
    """
    reader = _Reader(text)
    for match in _DELIMITER.finditer(text):
        reader.take(match)
    reader.close_to(0)
    return list(dict.fromkeys(reader.reasons))[:_MOST]


@dataclass
class _Reader:
    """What is open, and what was wrong so far."""

    text: str
    reasons: list[str] = field(default_factory=list)
    open: list[tuple[str, str]] = field(default_factory=list)  # kind, and as it is written
    kinds: Counter[str] = field(default_factory=Counter)
    modes: list[int] = field(default_factory=list)  # places in `open` of $, $$, \(, \[ and of words

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
        """The kind of mathematics that is open, "{" within its words, "" outside."""
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
        """Whether a dollar sign stands before an amount and has no partner on its line."""
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
        """Close the last of a kind; what was opened after it is not closed."""
        if not self.kinds[kind]:
            self.reasons.append(f"{by} closes nothing")
            return
        place = len(self.open) - 1
        while self.open[place][0] != kind:
            place -= 1
        self.close_to(place, silent_last=True)

    def close_to(self, place: int, silent_last: bool = False) -> None:
        """Take away what was opened from a place on, and say so; not of the first, where that one was closed."""
        for i in range(len(self.open) - 1, place - 1, -1):
            kind, written = self.open.pop()
            self.kinds[kind] -= 1
            if not (silent_last and i == place):
                self.reasons.append(f"{written} is not closed")
        while self.modes and self.modes[-1] >= place:
            self.modes.pop()
