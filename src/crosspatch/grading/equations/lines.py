r"""The equations of a worked solution that stand by themselves: displayed (`$$…$$`, `\[…\]`, `align`) or on a line.

Knows where they stand and what is only dressing; not what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from crosspatch.grading.equations.reading import plain_signs

_LONGEST = 300  # characters of a line that may be an equation

_CUT = re.compile(
    r"(?P<dollars>\$\$)|(?P<end>\\\\(?![a-zA-Z]{2})(?:\[[^\]\n]{0,10}\])?|\n)|(?P<open>\\\[)|(?P<close>\\\])"
    r"|\\(?P<edge>begin|end)\s?\{(?:equation|align|aligned|alignat|gather|gathered|split|eqnarray|multline)\*?\}"
)
_MARKUP = re.compile(r"\$|\\[()]|\*\*|__|`|&|\\(?:tag|label)\s?\{[^{}]*\}|\\(?:therefore|displaystyle)(?![a-zA-Z])|∴")
_BULLET = re.compile(r"\A\s*(?:[>#•]+|[*](?=\s)|\(?\d{1,2}[.)](?=\s))\s*")
_DASH = re.compile(r"\A\s*[-−–](?=\s)")
_BOX = re.compile(r"\\f?boxed\s?\{(.*)\}", re.DOTALL)
_THEN = re.compile(
    r"\\(?:Rightarrow|Longrightarrow|implies|iff|Leftrightarrow|to|rightarrow)(?![a-zA-Z])|⇒|⟹|→|⇔|[-=]>"
)
_NEARLY = re.compile(r"\\approx|\\simeq|≈")
_NO_WORDS = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s?\{\s*(?:or|and)\s*\}|\\[a-zA-Z]+|\b(?:or|and|sqrt)\b")


def equation_lines(text: str) -> Iterator[str]:
    """Each such equation in order, without its dressing; prose, and formulae without =, are passed over."""
    for line, displayed in _lines(text):
        if len(line) > _LONGEST:
            if displayed and "=" in line:
                yield line
            continue
        plain = _BOX.sub(r"\1", _MARKUP.sub(" ", line))
        if not displayed:
            # A dash may be a bullet or a minus: nobody shall read it as either.
            plain = _DASH.sub("•", _BULLET.sub("", plain, count=1))
            if re.search(r"[^\W\d_]{2,}", _NO_WORDS.sub(" ", plain_signs(plain))):
                continue
        for part in _THEN.split(plain):
            equation = _NEARLY.split(part)[0].strip(" \t\r.,;:")
            if "=" in equation:
                yield equation


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """The lines, and whether each is displayed; one that begins with = goes on with what the one before began with."""
    start, head = 0, ""
    dollars = bracket = False
    environments = 0
    for match in [*_CUT.finditer(text), None]:
        line = text[start : match.start() if match else len(text)]
        displayed = dollars or bracket or environments > 0
        if line.strip():
            if displayed and len(head) < _LONGEST and re.match(r"[\s&]*=", line):
                line = f"{head} {line}"
            head = line.partition("=")[0] if displayed else ""
            yield line, displayed
        if match is None:
            return
        start = match.end()
        if match["dollars"]:
            dollars = not dollars
        elif match["open"] or match["close"]:
            bracket = match["open"] is not None
        elif match["edge"]:
            environments = max(0, environments + (1 if match["edge"] == "begin" else -1))
