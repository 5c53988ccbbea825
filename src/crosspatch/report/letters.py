"""Tokens whose letters can be read only beside the text that they make up.

A token may be some bytes of a letter ("∫" is three tokens to many tokenizers), or lose its space when it is read alone.
"""

from __future__ import annotations

from collections.abc import Sequence

# What some bytes of a letter read as.
_BROKEN = "\ufffd"
# The most letters of one broken token; the token that follows is looked for no further.
_MOST_LETTERS = 4


def whole_letters(tokens: Sequence[str], text: str) -> dict[int, str]:
    """Index of a token to the letters that it shows, for tokens of a text that read otherwise by themselves.

    The first token of a run of broken ones gets all letters of the run, the others none. Empty where every token
    reads the same by itself, or where the tokens do not make up the text.
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
        stop = _next(text, at, tokens[end] if end < len(tokens) else "", _MOST_LETTERS * (end - i))
        if stop is None:
            return {}
        found |= {i: text[at:stop]} | dict.fromkeys(range(i + 1, end), "")
        at, i = stop, end
    return found


def _next(text: str, at: int, following: str, reach: int) -> int | None:
    """Where a run of letters from `at` on ends: at the following token, or with the text; None if neither is near."""
    if not following or not text[at:]:
        return len(text)
    stop = text.find(following, at + 1, at + reach + len(following))
    if stop >= 0:
        return stop
    return len(text) if len(text) - at <= reach else None
