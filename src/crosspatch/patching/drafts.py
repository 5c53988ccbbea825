"""Drafts of a text's next tokens, copied from other texts (prompt lookup decoding).

The engine verifies each token of a draft, so a wrong draft costs time but does not change the text.
"""

from __future__ import annotations

from collections.abc import Sequence

# (number of last tokens that must match an earlier place, length of the draft copied from there). A longer match gets a
# longer draft, since the text mostly repeats an earlier solution.
MATCHES = ((8, 16), (3, 4))


class Drafts:
    """The texts generated after one prompt, in which drafts are looked up.

    A text in `known`, such as the clean or the corrupted answer, gives the drafts as long as it begins with the
    generated text.
    """

    def __init__(self, prompt: Sequence[int], known: Sequence[Sequence[int]] = ()) -> None:
        self._prompt = list(prompt)
        self._known = [list(text) for text in known]
        self._seen: list[dict[tuple[int, ...], tuple[list[int], int]]] = [{} for _ in MATCHES]
        self.note(self._prompt, 1)
        for text in self._known:
            self.note(text, 1)

    def note(self, text: list[int], start: int) -> None:
        """Add a text, whose tokens before `start` (counted from 1) have already been added.

        The list is not copied, so that tokens appended to it later can be drafted too.
        """
        for (length, _), seen in zip(MATCHES, self._seen, strict=True):
            # Skip the end of the text: nothing follows it, and it would hide earlier places with the same tokens.
            for end in range(max(start - 1, length), len(text)):
                seen[tuple(text[end - length : end])] = (text, end)

    def follow(self, text: list[int], limit: int) -> list[int]:
        """Return the next tokens, at most `limit`, of a known text that starts with `text`; empty if there is none."""
        if limit > 0:
            for known in self._known:
                if len(known) > len(text) and known[: len(text)] == text:
                    return known[len(text) : len(text) + limit]
        return []

    def look_up(self, text: list[int], limit: int) -> list[int]:
        """Return the tokens, at most `limit`, that followed the last tokens of `text` at an earlier place."""
        context = text if len(text) >= MATCHES[0][0] else self._prompt + text
        for (length, most), seen in zip(MATCHES, self._seen, strict=True):
            found = seen.get(tuple(context[-length:]))
            if found is not None:
                there, end = found
                if draft := there[end : end + min(limit, most)]:
                    return draft
        return []
