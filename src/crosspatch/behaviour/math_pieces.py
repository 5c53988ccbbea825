"""The mathematical pieces of a text: what stands between its words of prose.

Works on one spelling (`latex_text`). Knows nothing of values: a piece may turn out to be unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from crosspatch.behaviour.latex_text import without_commands

_PIECES = 40  # tried, from the end


def pieces_from_end(tidy: str) -> Iterator[str]:
    """The last pieces, the very last one first."""
    count = 0
    for line in reversed(tidy.split("\n")):
        for run in reversed(list(pieces(line))):
            yield run
            count += 1
            if count >= _PIECES:
                return


def pieces(text: str) -> Iterator[str]:
    """The longest pieces between words of prose, ends of sentences and ends of lines."""
    for line in text.split("\n"):
        run: list[str] = []
        tokens = line.split()
        for token, following in zip(tokens, [*tokens[1:], ""], strict=False):
            if is_prose(token, following):
                yield from _finished(run)
                run = []
                continue
            run.append(token)
            if token[-1] in ".;:?!" and not token.endswith(r"\;"):
                yield from _finished(run)
                run = []
        yield from _finished(run)


def is_prose(token: str, following: str) -> bool:
    """Whether a token is a word; `following`, the next token, tells the article `a` from a variable."""
    bare = token.strip(".,;:?!()")
    if bare in ("or", "and", "dx", "dy") or re.fullmatch(r"cm|mm|km", bare):
        return False
    if bare in ("a", "A", "I"):
        return not re.match(r"[=+*/^<>≤≥≠-]|\\(?:approx|in|[lg]eq?|neq?)", following)
    return re.search(r"[^\W\d_]{2,}", without_commands(token)) is not None


def _finished(run: list[str]) -> Iterator[str]:
    while run and run[-1] in ("or", "and"):
        run = run[:-1]
    while run and run[0].rstrip(",") in ("or", "and"):
        run = run[1:]
    piece = " ".join(run).strip(" .,;:?!\"'")
    if re.search(r"[a-zA-Z\d]", piece):
        yield piece
