r"""Is a text itself sound, whatever it says? Knows nothing of questions, answers or models."""

from __future__ import annotations

import re

_SHORTEST, _LONGEST = 4, 1_000  # characters of a chunk that is looped
_TIMES, _COVERED = 3, 60

_BACKSLASH_N = re.compile(r"(?<!\\)\\(n[a-zA-Z]*)")
# What LaTeX writes with \n…; any other backslash-n is a newline that was escaped.
_COMMAND = re.compile(
    "nabla|natural|ncong|ne|nearrow|neg|negthinspace|neq|newcommand|newline|nexists|ngeq|ngtr|ni|nicefrac|"
    "nleftarrow|nleq|nless|nmid|nobreak|noindent|nolimits|nonumber|normalsize|not|notag|notin|nparallel|"
    "nrightarrow|nsim|nsubseteq|nsupseteq|nu|nwarrow"
)


def health(text: str, stop_reason: str) -> list[str]:
    """What is wrong with a generated text, in this order; empty for a sound one.

    no_eos: it was cut off (`stop_reason` is "limit").
    repetition: it ends in a loop, one chunk of 4 characters or more at least thrice, over 60 in all.
    escaped_newlines: it holds a backslash and an n where a line should end, or three backslashes in a row.
    """
    flags = {
        "no_eos": stop_reason == "limit",
        "repetition": _loops(text),
        "escaped_newlines": _escapes(text),
    }
    return [flag for flag, raised in flags.items() if raised]


def _loops(text: str) -> bool:
    """Whether the end repeats itself; the last round may be cut off anywhere."""
    for length in range(_SHORTEST, min(_LONGEST, len(text) // _TIMES) + 1):
        window = text[-max(_COVERED, _TIMES * length) :]
        if len(window) >= _COVERED and window[length:] == window[:-length]:
            return True
    return False


def _escapes(text: str) -> bool:
    return "\\" * 3 in text or any(not _COMMAND.fullmatch(name) for name in _BACKSLASH_N.findall(text))
