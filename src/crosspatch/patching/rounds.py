"""Passes over texts in batches: what both models read is kept, and patched rows are computed and scored from it.

A model reads each position of a text once. Its top-1 token, its last hidden state and the activations that patches need
are kept until the patched rows have passed the position, so that rows can be computed in a later pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from crosspatch.models.hooks import Edit, replacing
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.models.unembedding import UNEMBED_AT_ONCE, unembed
from crosspatch.patching.drafts import Guide
from crosspatch.patching.patches import ALL_STEPS, Patch
from crosspatch.patching.scores import Contexts, score_cells
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Whole
from crosspatch.patching.two_stream.passes import Join, packed_model

# Patched positions of one text in a pass at most, but at least those of one position, which bounds memory.
CELLS_AT_ONCE = 4096
# The two models of a run.
TARGET, SOURCE = 0, 1
# Stores the hidden states of the tokens that a model reads in a pass, under a site or (the last ones) None.
Keep = Callable[[Site | None, Float[Tensor, "T D"]], None]


@dataclass(eq=False)
class Text:
    """A text with its prompt, and what the models have read of it.

    `start` is the first position with a prediction, the prompt's last token. By model (target, source): the cache slot,
    the number of positions read, and the top-1 tokens after the positions from `start` on. `places` are where the
    results at these positions are kept; -1 if they are not.
    """

    prompt: int
    ids: list[int]
    start: int
    slots: list[int]
    read: list[int] = field(default_factory=lambda: [0, 0])
    top: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    places: list[int] = field(default_factory=list)
    # From where its next tokens are drafted, and the texts that left it, by length and next token.
    guide: Guide | None = None
    children: dict[tuple[int, int], Text] = field(default_factory=dict)


@dataclass(frozen=True)
class Cells:
    """C patched positions, sorted by text and position: the index of the text, the position, and the row of each."""

    texts: Sequence[Text]
    text: Whole
    position: Whole
    row: Whole

    @cached_property
    def places(self) -> Whole:
        """Where the results at the cells' positions are kept."""
        return self._at([(text.places, text.start) for text in self.texts])

    @cached_property
    def firsts(self) -> Whole:
        """The first cell of each context, and the number of cells."""
        new = (np.diff(self.text, prepend=-1) != 0) | (np.diff(self.position, prepend=-1) != 0)
        return np.append(np.flatnonzero(new), len(self.text))

    @cached_property
    def ids(self) -> Whole:
        """The token at each cell's position."""
        return self._at([(text.ids, 0) for text in self.texts])

    def _at(self, lists: Sequence[tuple[list[int], int]]) -> Whole:
        """Return each cell's number from its text's list, which begins at a position."""
        firsts = np.cumsum([0, *(len(values) for values, _ in lists)])[:-1] - np.array(
            [start for _, start in lists], int
        )
        return np.array([value for values, _ in lists for value in values], np.int64)[firsts[self.text] + self.position]


_NONE = np.array([], np.int64)
_NO_CELLS = Cells((), _NONE, _NONE, _NONE)


class Rounds(ExitStack):
    """The passes of one run, with both models' key-value caches; the models have hooks until it is closed.

    `patches` are the patches of all rows. `positions` is the expected length of the longest text with its prompt,
    `slots` the expected number of texts. A persistent row has its own keys and values in the cache slot `row_slots`.
    """

    def __init__(self, pair: ModelPair, run: PatchRun, patches: Sequence[Patch], positions: int, slots: int) -> None:
        super().__init__()
        self.pair, self.run, self.patches = pair, run, patches
        self.models = pair.target_and_source(run.direction)
        self.device = input_device(self.models[TARGET])
        self.pasts = [KeyValues(input_device(model), positions, slots) for model in self.models]
        self.row_slots = np.full(len(patches), -1)
        self._kept = _Kept()
        # The places and logits of the last positions that each model has read.
        self._last = [(_NONE, torch.empty(0))] * 2
        self._looks = any(patch.schedule.looks for patch in patches)
        self._always = all(patch.schedule == ALL_STEPS for patch in patches)
        # A row starts either from the source's residual stream, patched in below its first block, or the target's.
        self._entries = np.array([patch.entry for patch in patches], np.int64)
        below = [Site(patch.entry - 1) if patch.entry else None for patch in patches]
        self._direct = np.array([self._always and b in p.sites for p, b in zip(patches, below, strict=True)], bool)
        # By start block, and rows from the source before those from the target.
        self._order = 2 * self._entries + ~self._direct
        self._streams = {b for b, direct in zip(below, self._direct, strict=True) if b and not direct}
        self._rows_at: dict[Site, NDArray[np.bool_]] = {}
        for row, patch in enumerate(patches):
            for site in set(patch.sites) - ({below[row]} if self._direct[row] else set()):
                self._rows_at.setdefault(site, np.zeros(len(patches), bool))[row] = True
        self._sites = {site for patch in patches for site in patch.sites}
        self._packed = [
            self.enter_context(packed_model(model, past, sites))
            for model, past, sites in zip(self.models, self.pasts, (self._rows_at, self._sites), strict=True)
        ]

    def open(self, prompt: int, ids: Sequence[int]) -> Text:
        """Open a text that begins with a prompt, in new cache slots."""
        return Text(prompt, list(ids), len(ids) - 1, [past.open() for past in self.pasts])

    def fork(self, text: Text, length: int) -> Text:
        """Copy the first `length` tokens of a text, and their keys and values, into a new text."""
        read = [min(read, length) for read in text.read]
        slots = [past.fork(slot, n) for past, slot, n in zip(self.pasts, text.slots, read, strict=True)]
        top = [of[: max(0, n - text.start)] for of, n in zip(text.top, read, strict=True)]
        # What is kept of these positions stays with the first text: the rows of the new one have passed them.
        places = [-1] * max(0, max(read) - text.start)
        return Text(text.prompt, text.ids[:length], text.start, slots, read, (top[0], top[1]), places)

    def cut(self, text: Text, length: int) -> None:
        """Keep only the first `length` tokens of a text."""
        self.release(text, length, len(text.ids))
        del text.ids[length:]
        text.read = [min(read, length) for read in text.read]
        for kept in (*text.top, text.places):
            del kept[max(0, length - text.start) :]
        text.children = {key: child for key, child in text.children.items() if key[0] <= length}

    def close_text(self, text: Text) -> None:
        """Free a text's cache slots and what is kept of it."""
        self.release(text, 0, len(text.ids))
        for past, slot in zip(self.pasts, text.slots, strict=True):
            past.close(slot)

    def release(self, text: Text, first: int, last: int) -> None:
        """Free what is kept of some positions of a text."""
        part = slice(max(0, first - text.start), max(0, last - text.start))
        self._kept.release(place for place in text.places[part] if place >= 0)
        text.places[part] = [-1] * len(text.places[part])

    def read(self, model: int, wanted: Sequence[tuple[Text, int]], cells: Cells | None = None) -> Tensor:
        """Let a model read each text up to a length; the target also computes cells. Returns their scores [C, 10].

        The source must have read the cells' positions before, the target at the latest in this pass. A schedule that
        depends on the models' predictions needs both before, so then the target reads in a pass of its own.
        """
        if self._looks and cells is not None:
            self.read(model, wanted)
        new = [(text, text.read[model], upto) for text, upto in wanted if upto > text.read[model]]
        ids = np.array([token for text, first, upto in new for token in text.ids[first:upto]], np.int64)
        positions = np.concatenate([_NONE, *(np.arange(first, upto) for _, first, upto in new)])
        slots = np.repeat(
            *np.array([(text.slots[model], upto - first) for text, first, upto in new], np.int64).reshape(-1, 2).T
        )
        places = np.array([place for one in new for place in self._places(*one)], np.int64)
        # Nothing is kept of a prompt except for its last token.
        kept = np.flatnonzero(places >= 0)
        index: Any = slice(0, len(ids)) if len(kept) == len(ids) else torch.from_numpy(kept)
        at = torch.from_numpy(places[kept])

        def keep(name: Site | None, hidden: Float[Tensor, "T D"]) -> None:
            if len(kept):
                self._kept.write((model, name), at, hidden[index])

        cells = _NO_CELLS if cells is None else cells
        applied, order = self._computed(cells)
        row, position, text = cells.row[order], cells.position[order], cells.text[order]
        none = np.zeros_like(ids)
        slot = np.array([text.slots[TARGET] for text in cells.texts], np.int64)[text]
        own = self.row_slots[row]
        more = (cells.ids[order], position, np.where(own < 0, slot, own), self._entries[row], own < 0)
        base = (ids, positions, slots, none, none.astype(bool))
        arrays: Any = [np.concatenate(both) for both in zip(base, more, strict=True)]
        packing = Packing(*arrays, self.pasts[model].device)  # type: ignore[call-arg]
        hidden = torch.empty(0, 0)
        if len(packing):
            if model == SOURCE:
                edits: dict[Site, Edit] = {site: partial(_observed, partial(keep, site)) for site in self._sites}
                hidden = self._packed[SOURCE].run(packing, edits=edits)
            else:
                joins = self._joins(row, torch.from_numpy(cells.places[order]), keep)
                edits = self._edits(row, cells.places[order], applied[order], len(ids))
                hidden = self._packed[TARGET].run(packing, joins, edits)
            keep(None, hidden)
            self._predict(model, new, places[kept], hidden[index])
        return self._scores(cells, applied, order, hidden[len(ids) :])

    def _places(self, text: Text, first: int, upto: int) -> list[int]:
        """Return the places for what is kept of some positions, new ones if needed; -1 before the first prediction."""
        text.places += self._kept.take(upto - text.start - len(text.places))
        at = first - text.start
        return [-1] * -at + text.places[max(0, at) : upto - text.start]

    def _computed(self, cells: Cells) -> tuple[NDArray[np.bool_], Whole]:
        """Return in which cells the patch is applied, and the cells to compute, in the order in which they start."""
        applied = np.ones(len(cells.row), bool)
        if not self._always:
            text_of = self.pair.prompts.token_text
            for i, (t, position, row) in enumerate(zip(cells.text, cells.position, cells.row, strict=True)):
                text, schedule = cells.texts[t], self.patches[row].schedule
                step = position - text.start
                applied[i] = (
                    schedule.applies(step, *(of[step] for of in text.top), text_of)
                    if schedule.looks
                    else schedule.may(step)
                )
        # A transient patch that is not applied equals the target; a persistent one has its own keys and values.
        some = np.flatnonzero(applied | (self.run.persistence == "persistent"))
        return applied, some[self._order[cells.row[some]].argsort(kind="stable")]

    def _joins(self, row: Whole, places: Tensor, keep: Keep) -> dict[int, Join]:
        """Return what starts at each block: rows from what is kept of the source, then of the target."""
        joins: dict[int, Join] = {}
        for entry in {*self._entries[row].tolist(), *(site.layer + 1 for site in self._streams)} - {0}:
            ends = np.searchsorted(self._order[row], [2 * entry, 2 * entry + 1, 2 * entry + 2])
            parts = [(m, places[a:b]) for m, a, b in zip((SOURCE, TARGET), ends, ends[1:], strict=False) if b > a]
            joins[entry] = partial(self._join, Site(entry - 1), parts, keep)
        return joins

    def _join(self, site: Site, parts: list[tuple[int, Tensor]], keep: Keep, hidden: Tensor) -> Tensor | None:
        if site in self._streams:
            keep(site, hidden)
        rows = [self._kept.read((model, site), places).to(hidden.device) for model, places in parts]
        return torch.cat(rows) if rows else None

    def _edits(self, row: Whole, places: Whole, applied: NDArray[np.bool_], offset: int) -> dict[Site, Edit]:
        """Return for each site the edit that writes the source's activations into the rows that patch it."""
        edits = {}
        for site, patched in self._rows_at.items():
            some = np.flatnonzero(patched[row] & applied)
            if len(some):
                there, here = torch.from_numpy(some + offset), torch.from_numpy(places[some])
                edits[site] = replacing(there, self._kept[SOURCE, site], here)
        return edits

    def _predict(self, model: int, new: Sequence[tuple[Text, int, int]], places: Whole, hidden: Tensor) -> None:
        """Note a model's top-1 tokens after the positions that it has read."""
        tops, logits = [], torch.empty(0)
        for part in hidden.split(UNEMBED_AT_ONCE):
            logits = self._unembed(model, part)
            tops.append(logits.argmax(-1))
        tokens = iter(torch.cat(tops).tolist() if len(hidden) else [])
        for text, first, upto in new:
            text.top[model].extend(islice(tokens, max(0, upto - max(first, text.start))))
            text.read[model] = upto
        self._last[model] = (places, logits) if len(tops) == 1 else (_NONE, torch.empty(0))

    def _scores(
        self, cells: Cells, applied: NDArray[np.bool_], order: Whole, hidden: Float[Tensor, "P D"]
    ) -> Float[Tensor, "C 10"]:
        """Score cells context by context, a few at a time, so that few logits are in memory."""
        if len(order) == len(cells.row):
            hidden = hidden[torch.from_numpy(order.argsort())]
        else:
            of_target = self._kept.read((TARGET, None), torch.from_numpy(cells.places))
            at = torch.from_numpy(order).to(of_target.device)
            hidden = of_target.index_copy(0, at, hidden.to(of_target)) if len(order) else of_target
        firsts = cells.places[cells.firsts[:-1]]

        def contexts(some: slice) -> Contexts:
            of_target, of_source = (self._logits(model, firsts[some]) for model in (TARGET, SOURCE))
            return Contexts.of(of_target, of_source.to(of_target.device), self.run.direction)

        return score_cells(cells.firsts, contexts, lambda some: self._unembed(TARGET, hidden[some]), applied)

    def _logits(self, model: int, places: Whole) -> Float[Tensor, "B V"]:
        """Return a model's logits at some places, from its last pass if that has them all."""
        last, logits = self._last[model]
        sorter = last.argsort()
        found = np.searchsorted(last, places, sorter=sorter).clip(max=len(last) - 1)
        if len(last) and (last[sorter[found]] == places).all():
            return logits[torch.from_numpy(sorter[found])]
        return self._unembed(model, self._kept.read((model, None), torch.from_numpy(places)))

    def _unembed(self, model: int, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        return unembed(self.models[model], hidden, float32=self.run.float32_unembedding)


def _observed(keep: Callable[[Tensor], None], activation: Float[Tensor, "1 T D"]) -> None:
    """An edit that changes nothing."""
    keep(activation[0])


class _Kept:
    """Rows of tensors by name, in places that are used again."""

    def __init__(self) -> None:
        self._tensors: dict[Any, Tensor] = {}
        self._free: list[int] = []
        self._size = 0

    def take(self, count: int) -> list[int]:
        """Reserve some places."""
        if count > len(self._free):
            size = max(2 * self._size, self._size + count, UNEMBED_AT_ONCE)
            for name, old in self._tensors.items():
                self._tensors[name] = old.new_empty(size, old.shape[1])
                self._tensors[name][: self._size] = old
            self._free = [*range(size - 1, self._size - 1, -1), *self._free]
            self._size = size
        return [self._free.pop() for _ in range(count)]

    def release(self, places: Iterable[int]) -> None:
        """Make places free again."""
        self._free += places

    def write(self, name: Any, places: Int[Tensor, " N"], values: Float[Tensor, "N W"]) -> None:
        """Store a row at each place."""
        if name not in self._tensors:
            self._tensors[name] = values.new_empty(self._size, values.shape[1])
        self._tensors[name].index_copy_(0, places.to(values.device), values)

    def read(self, name: Any, places: Int[Tensor, " N"]) -> Float[Tensor, "N W"]:
        """Return the rows at some places."""
        tensor = self._tensors[name]
        return tensor.index_select(0, places.to(tensor.device))

    def __getitem__(self, name: Any) -> Tensor:
        return self._tensors[name]
