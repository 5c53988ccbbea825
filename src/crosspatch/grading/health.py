r"""Measures the health of a generated text, independent of question and answer: counts of malformed parts.

The paper's overfitted children wrote `\\\n` in place of line breaks (section 4.1.1); this counts as a run of
backslashes and an escaped newline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from crosspatch.data.escaped_text import N_COMMAND
from crosspatch.grading.latex import unclosed, unparsable

_SHORTEST, _LONGEST = 4, 1_000  # the length of a repeated chunk in characters
_TIMES, _COVERED = 3, 60

_BACKSLASH_N = re.compile(r"(?<!\\)(?:\\\\)*\\(n[a-zA-Z]*)")
_RUN = re.compile(r"(\\{3,})([a-zA-Z]+|[\[(|{}])?")
# Environments in which two backslashes end a row; an unclosed one extends to the end of the text.
_MATHEMATICS = re.compile(
    r"(?<!\\)(?:\$\$.*?(?:\$\$|\Z)|\$[^$\n]*\$|\\\[.*?(?:\\\]|\Z)|\\\(.*?(?:\\\)|\Z)"
    r"|\\begin\{([^{}\n]*)\}.*?(?:\\end\{\1\}|\Z))",
    re.DOTALL,
)
_TWO = re.compile(r"(?<!\\)\\\\(?!\\)")


@dataclass(frozen=True)
class Health:
    r"""Counts of the malformed parts of a text; a healthy text has 0 everywhere.

    cut_off: 1 if the text has no end-of-text token (the limit was reached).
    looped: characters at the end that repeat the chunk before them. A chunk has at least 4 characters and occurs at
    least three times, 60 characters or more in all; the first occurrence is not counted.
    backslash_runs: runs of three or more backslashes, except where they end a row before a command; outside of
    mathematics, where there are no rows, runs of two or more.
    escaped_newlines: a backslash and an n in place of a line break.
    unclosed: delimiters that are not closed (`$`, `$$`, braces, `\boxed{`, environments), at most five.
    unparsable: formulas between delimiters that are not valid LaTeX.
    """

    cut_off: int
    looped: int
    backslash_runs: int
    escaped_newlines: int
    unclosed: int
    unparsable: int

    @property
    def flags(self) -> list[str]:
        """The names of the counts above 0, in a fixed order; cut_off is called no_eos, looped is called repetition."""
        named = {"no_eos": self.cut_off, "repetition": self.looped, "backslash_runs": self.backslash_runs}
        named |= {"escaped_newlines": self.escaped_newlines, "unclosed": self.unclosed, "unparsable": self.unparsable}
        return [name for name, count in named.items() if count]


def health(text: str, stop_reason: str) -> Health:
    """Measure a generated text; `stop_reason` is "limit" if it was truncated."""
    cut_off = stop_reason == "limit"
    return Health(
        cut_off=int(cut_off),
        looped=_looped(text),
        backslash_runs=sum(not _ends_a_row(*run) for run in _RUN.findall(text))
        + len(_TWO.findall(_MATHEMATICS.sub(" ", text))),
        escaped_newlines=sum(not N_COMMAND.fullmatch(name) for name in _BACKSLASH_N.findall(text)),
        # A delimiter that is open at the end of a truncated text is no error.
        unclosed=sum(not (cut_off and reason.endswith("is not closed")) for reason in unclosed(text)),
        unparsable=unparsable(text),
    )


def _ends_a_row(backslashes: str, behind: str) -> bool:
    r"""Whether three backslashes end a row and begin a command, as in `\\\hline`."""
    if len(backslashes) > 3 or len(behind) < 2:
        return len(backslashes) == 3 and behind in {"[", "(", "|", "{", "}"}
    return not behind.startswith("n") or N_COMMAND.fullmatch(behind) is not None


def _looped(text: str) -> int:
    """Count the characters at the end that repeat the chunk before them; the last repetition may be incomplete."""
    for length in range(_SHORTEST, min(_LONGEST, len(text) // _TIMES) + 1):
        window = text[-max(_COVERED, _TIMES * length) :]
        if len(window) >= _COVERED and window[length:] == window[:-length]:
            period = len(text) - length
            while period > 0 and text[period - 1] == text[period - 1 + length]:
                period -= 1
            return len(text) - length - period
    return 0
