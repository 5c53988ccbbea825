"""Drafts of a text's next tokens, copied from other texts after the same prompt, and how long they should be.

The engine verifies each token of a draft, so a wrong draft costs time but does not change the text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

# Numbers of last tokens that are looked up in earlier texts, and how far from its place a guide is searched.
LONG, SHORT = 4, 1
NEAR = 6
LONGEST = 64
# Before anything was drafted, 15 of 20 tokens count as kept.
_KEPT, _TRIED = 15, 20

# The cost of a pass of one token, by type of device, in units of one more token. Not measured in each process: what a
# resumed run computes has the same last digits only if its drafts have the same lengths.
PASS_COST = {"cpu": 16.0}
PASS_COST_ELSEWHERE = 64.0

# A list of token ids, and how many tokens its next token is ahead of the text's.
Guide = tuple[list[int], int]


class Drafts:
    """The texts after one prompt, its tokens included, in which drafts are looked up.

    `known` are texts such as the unpatched answers.
    """

    def __init__(self, prompt: Sequence[int], known: Sequence[Sequence[int]] = ()) -> None:
        self._seen: dict[tuple[int, ...], tuple[list[int], int]] = {}
        own = list(prompt)
        self.note(own, 1, len(own))
        whole = [[*prompt, *text] for text in known]
        for text in reversed(whole):
            self.note(text, len(prompt), len(text))
        self.first: Guide | None = (whole[0], 0) if whole else None

    def note(self, text: list[int], start: int, end: int) -> None:
        """Add the tokens of a text from `start` to `end`. The list is not copied, so it may grow later."""
        for length in (LONG, SHORT):
            # Skip the end of the text: nothing follows it, and it would hide earlier places with the same tokens.
            for here in range(max(start, length), end):
                self._seen[tuple(text[here - length : here])] = (text, here)

    def guide(self, text: list[int], guide: Guide | None) -> tuple[str, Guide] | None:
        """Return from where the text's next tokens are drafted, and by which of these rules, the first that applies.

        long: the last 8 tokens occur elsewhere. same: the text's guide has the same last token. near: the guide has it
        a few tokens earlier or later. short: the last 3 tokens occur elsewhere. moved: the guide, one token on, since
        texts often differ in a single token.
        """
        here = len(text)
        if (found := self._seen.get(tuple(text[-LONG:]))) is not None:
            return "long", (found[0], found[1] - here)
        if guide is not None:
            there, ahead = guide
            for rule, length, most in (("same", 1, 0), ("near", 2, NEAR), ("near", 1, NEAR)):
                for shift in sorted(range(-most, most + 1), key=abs):
                    end = here + ahead + shift
                    if 0 < end < len(there) and there[max(0, end - length) : end] == text[-length:]:
                        return rule, (there, ahead + shift)
        if (found := self._seen.get(tuple(text[-SHORT:]))) is not None:
            return "short", (found[0], found[1] - here)
        return ("moved", guide) if guide is not None and 0 <= here + guide[1] < len(guide[0]) else None


class DraftLengths:
    """How many tokens to draft, from the cost of a pass, and from how many of each rule's tokens were kept so far.

    `single` is the cost of a pass of one token, in units of one more token.
    """

    def __init__(self, single: float) -> None:
        self._single = single
        self._kept: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()

    def length(self, rule: str, texts: int) -> int:
        """Return the best length, where this many texts are read in a pass.

        A draft's n-th token helps if all n are kept, which has the probability pⁿ. It then saves the text its share of
        a pass.
        """
        kept = min(0.99, (self._kept[rule] + _KEPT) / (self._tried[rule] + _TRIED))
        return min(LONGEST, int(math.log(max(1.0, self._single / texts)) / -math.log(kept)))

    def note(self, rule: str, kept: int, drafted: int) -> None:
        """Add a draft, of which the first tokens were kept."""
        self._kept[rule] += kept
        self._tried[rule] += min(kept + 1, drafted)
