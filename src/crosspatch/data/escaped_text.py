r"""Unescapes text whose newlines and backslashes were escaped twice, so that it has `\n` and `\\frac` as characters.

In LaTeX `\n` may also begin a command, such as `\neq`, which is kept. `\frac` and `\times` with one backslash, which
occur in some escaped texts, are kept too.
"""

from __future__ import annotations

import re

_BACKSLASHED = re.compile(r"\\(\\|[a-zA-Z]+|[^a-zA-Z])", re.DOTALL)
# The LaTeX commands that begin with \n; any other backslash-n is a newline.
N_COMMAND = re.compile(
    "nabla|natural|ncong|ne|nearrow|neg|negmedspace|negthickspace|negthinspace|neq|newcommand|newline|"
    "nexists|ngeq|ngeqslant|ngtr|ni|nicefrac|nleftarrow|nleftrightarrow|nleq|nleqslant|nless|nmid|nobreak|"
    "noindent|nolimits|nolinebreak|nonumber|norm|normalfont|normalsize|not|notag|notin|nparallel|nprec|"
    "nrightarrow|nsim|nsubseteq|nsucc|nsupseteq|nu|nwarrow"
)
# These commands may instead be a newline and the beginning of a line such as `u = 3`.
_AMBIGUOUS = frozenset({"nu", "ne", "ni"})
_LINE_ENDS = ("$$", r"\n", ".", ":", ";", "!", "?", "*")


def is_escaped(text: str) -> bool:
    r"""Whether a text has an `\n` that begins no LaTeX command, and has no real newline."""
    return "\n" not in text and any(
        name[1].startswith("n") and not N_COMMAND.fullmatch(name[1]) for name in _BACKSLASHED.finditer(text)
    )


def unescaped(text: str) -> str:
    r"""Return the text with real newlines, quotes and single backslashes; LaTeX commands stay."""
    found = [match[1] for match in _BACKSLASHED.finditer(text)]
    doubled = re.search(r"\\\\[a-zA-Z]", text) is not None
    single = any(name.isalpha() and not name.startswith(("n", "r")) and name != "t" for name in found)

    def meant(match: re.Match[str]) -> str:
        name, before = match[1], text[max(0, match.start() - 3) : match.start()].rstrip(" ")
        if name in ('"', "\\"):
            return name
        if name == "t":
            return "\t"
        if name == "r" and text.startswith(r"\n", match.end()):
            return ""
        ends_line = not before or before.endswith(_LINE_ENDS) or (doubled and not single)
        if name.startswith("n") and (not N_COMMAND.fullmatch(name) or (name in _AMBIGUOUS and ends_line)):
            return "\n" + name[1:]
        return match[0]

    return _BACKSLASHED.sub(meant, text)
