"""The letters of tokens that are not themselves when they are read alone.

A token may be some bytes of a letter ("∫" is three tokens to many tokenizers), and read alone it is a replacement
character; another may lose the space before it. Beside the whole text its letters are known again: they go to the token
that begins them. Knows nothing of tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence

_BROKEN = "\ufffd"
# So many letters a broken token may turn out to hold, and the one that follows must be found within so many.
_MOST = 4


def whole_letters(tokens: Sequence[str], text: str) -> dict[int, str]:
    """Index of a token to what it is to show, for the tokens of a text that read otherwise by themselves.

    The first of a run of broken tokens gets all its letters, the others none. Empty where there is none, or where the
    tokens do not make up the text.
    """
    found: dict[int, str] = {}
    at, i = 0, 0
    while i < len(tokens):
        if _BROKEN not in tokens[i]:
            if not text.startswith(tokens[i], at):
                # A text ends before tokens that are no letters (end of text).
                if at == len(text):
                    return found
                # Some tokenizers drop the space before a token that is read alone.
                if not text.startswith(f" {tokens[i]}", at):
                    return {}
                found[i] = f" {tokens[i]}"
            at += len(found.get(i, tokens[i]))
            i += 1
            continue
        end = i
        while end < len(tokens) and (_BROKEN in tokens[end] or not tokens[end]):
            end += 1
        stop = _next(text, at, tokens[end] if end < len(tokens) else "", _MOST * (end - i))
        if stop is None:
            return {}
        found |= {i: text[at:stop]} | dict.fromkeys(range(i + 1, end), "")
        at, i = stop, end
    return found


def _next(text: str, at: int, following: str, reach: int) -> int | None:
    """Where a run of letters from `at` on ends: at the token that follows, or with the text."""
    if not following or not text[at:]:
        return len(text)
    stop = text.find(following, at + 1, at + reach + len(following))
    if stop >= 0:
        return stop
    return len(text) if len(text) - at <= reach else None
