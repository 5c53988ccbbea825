"""Drafts of a text's next tokens, taken from texts that are already there.

The engine verifies each token of a draft, so a bad one costs time and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

# Tokens that have to match before what followed them elsewhere is taken for a draft, and the most that is taken.
# Long matches mostly mean that the same solution is being written again.
MATCHES = ((8, 16), (3, 4))


class Drafts:
    """The texts that were written after one prompt, and look-up in them.

    Texts that are known beforehand (the clean and the corrupted answer, say) are followed as long as they fit.
    """

    def __init__(self, prompt: Sequence[int], known: Sequence[Sequence[int]] = ()) -> None:
        self._prompt = list(prompt)
        self._known = [list(text) for text in known]
        self._seen: list[dict[tuple[int, ...], tuple[list[int], int]]] = [{} for _ in MATCHES]
        self.note(self._prompt, 1)
        for text in self._known:
            self.note(text, 1)

    def note(self, text: list[int], start: int) -> None:
        """Look up in `text` from now on, of which what stands before `start` (counted from 1) is known already.

        The list itself is kept, so that what is appended to it later can be drafted too.
        """
        for (length, _), seen in zip(MATCHES, self._seen, strict=True):
            # Not its own end: nothing follows there, and what followed the same words elsewhere would be lost.
            for end in range(max(start - 1, length), len(text)):
                seen[tuple(text[end - length : end])] = (text, end)

    def follow(self, text: list[int], limit: int) -> list[int]:
        """What comes next in a known text that began as this one, at most `limit` tokens; none if none did."""
        if limit > 0:
            for known in self._known:
                if len(known) > len(text) and known[: len(text)] == text:
                    return known[len(text) : len(text) + limit]
        return []

    def look_up(self, text: list[int], limit: int) -> list[int]:
        """What followed the last tokens of a text where they stood before, at most `limit` tokens."""
        context = text if len(text) >= MATCHES[0][0] else self._prompt + text
        for (length, most), seen in zip(MATCHES, self._seen, strict=True):
            found = seen.get(tuple(context[-length:]))
            if found is not None:
                there, end = found
                if draft := there[end : end + min(limit, most)]:
                    return draft
        return []
