"""Drafts of a text's next tokens, copied from other texts after the same prompt, and how long they should be.

The engine verifies each token of a draft, so a wrong draft costs time but does not change the text.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import nn

from crosspatch.models.placement import input_device
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing
from crosspatch.patching.two_stream.passes import packed_model

# Numbers of last tokens that are looked up in earlier texts, and how far from its place a guide is searched.
LONG, SHORT = 4, 1
NEAR = 6
LONGEST = 64
# Before anything was drafted, 15 of 20 tokens count as kept.
_KEPT, _TRIED = 15, 20

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


@dataclass(frozen=True)
class PassCost:
    """The time of a pass of one token, and that of going from one token to several, in units of one more token."""

    single: float
    several: float


class DraftLengths:
    """How many tokens to draft, from the cost of a pass, and from how many of each rule's tokens were kept so far."""

    def __init__(self, cost: PassCost) -> None:
        self._cost = cost
        self._kept: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()

    def length(self, rule: str, texts: int) -> int:
        """Return the best length, where this many texts are read in a pass.

        A draft's n-th token helps if all n are kept, which has the probability pⁿ. It then saves the text its share of
        a pass. Drafts of a single text also pay for a pass of several tokens.
        """
        kept = min(0.99, (self._kept[rule] + _KEPT) / (self._tried[rule] + _TRIED))
        saved = self._cost.single / texts
        length = min(LONGEST, int(math.log(max(1.0, saved)) / -math.log(kept)))
        gain = saved * kept * (1 - kept**length) / (1 - kept) - length
        return length if gain > (self._cost.several if texts == 1 else 0) else 0

    def note(self, rule: str, kept: int, drafted: int) -> None:
        """Add a draft, of which the first tokens were kept."""
        self._kept[rule] += kept
        self._tried[rule] += min(kept + 1, drafted)


_COSTS: WeakKeyDictionary[nn.Module, PassCost] = WeakKeyDictionary()


def pass_cost(model: nn.Module) -> PassCost:
    """Measure the cost of a packed pass, once for each model.

    Rounded to powers of four, so that the lengths of drafts, on which the last digits of sums depend, rarely change
    between runs.
    """
    if model not in _COSTS:
        few, many, device = 4, 32, input_device(model)
        past = KeyValues(device, many, 1)
        slot = past.open()
        seconds: dict[int, float] = {}
        with packed_model(model, past) as packed:
            for tokens in (many, 1, few) * 4:
                packing = Packing.of_text([0] * tokens, slot, device)
                start = time.perf_counter()
                packed.run(packing).sum().item()
                seconds[tokens] = min(time.perf_counter() - start, seconds.get(tokens, math.inf))
        one = seconds[1]
        each = max((seconds[many] - seconds[few]) / (many - few), one / 64)
        several = seconds[few] - (few - 1) * each - one
        _COSTS[model] = PassCost(_rounded(one / each), _rounded(several / each) if several > one / 3 else 0.0)
    return _COSTS[model]


def _rounded(tokens: float) -> float:
    return 4.0 ** round(math.log(max(tokens, 1.0), 4))
