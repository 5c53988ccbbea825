"""One batched step: both models read the next tokens of some texts, and every patch of each text is scored.

The source's forward pass gives the activations; the target's computes its unpatched positions and the patched ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosspatch.models.hooks import Edit, reading, replacing
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.models.unembedding import UNEMBED_AT_ONCE, unembed
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Contexts, Step, Steps
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import packed_pass

# Maximum number of contexts scored at once; the logits of both models for them are held in memory.
CONTEXTS_AT_ONCE = 32


@dataclass
class Row:
    """One patch of one text; a persistent patch has its own keys and values in the cache slot `lane`."""

    patch: Patch
    lane: int | None = None


@dataclass
class Stretch:
    """A chunk of one text: the token `ids` at positions from `start` on, which predict the steps from `step` on.

    If a cache slot (`target_lane`, `source_lane`) is None, that model does not read the text; `rows` need both models.
    """

    ids: list[int]
    start: int
    step: int
    target_lane: int | None
    source_lane: int | None
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Read:
    """The results of one chunk: each model's top-1 token after each position, and each row's scores by position.

    A model's list of tokens is empty if the model did not read the chunk.
    """

    target_tokens: list[int]
    source_tokens: list[int]
    rows: list[list[Step]]


@dataclass(frozen=True)
class _Cell:
    """Position `j` of row `row` of chunk `stretch`; `applied` is whether the schedule applies the patch there."""

    stretch: int
    row: int
    j: int
    applied: bool


class Rounds:
    """The batched steps of one pair, with both models' key-value caches.

    `positions` is the expected length of the longest text with its prompt, `lanes` the expected number of texts.
    """

    def __init__(self, pair: ModelPair, run: PatchRun, positions: int, lanes: int) -> None:
        self.pair, self.run = pair, run
        self.target, self.source = pair.target_and_source(run.direction)
        self.device, self.source_device = map(input_device, (self.target, self.source))
        self.target_past = KeyValues(self.device, positions, lanes)
        self.source_past = KeyValues(self.source_device, positions, lanes)

    def prefill(self, texts: Sequence[tuple[list[int], int | None, int | None]]) -> None:
        """Fill the caches with texts without scoring; each text is (ids, target cache slot, source cache slot)."""
        for model, past, device, which in (
            (self.target, self.target_past, self.device, 1),
            (self.source, self.source_past, self.source_device, 2),
        ):
            tokens = [
                Token(id, position, text[which])  # type: ignore[arg-type]
                for text in texts
                if text[which] is not None
                for position, id in enumerate(text[0])
            ]
            if tokens:
                packed_pass(model, Packing(tokens, device), past)

    def read(self, stretches: Sequence[Stretch]) -> list[Read]:
        """Run one step over all chunks, and add their keys and values to their cache slots."""
        return _Round(self, stretches).scored()


@dataclass(frozen=True)
class _Round:
    """The state of one batched step."""

    rounds: Rounds
    stretches: Sequence[Stretch]

    def scored(self) -> list[Read]:
        source_hidden, activations = self._read_source()
        patched = [(s, j) for s, stretch in enumerate(self.stretches) if stretch.rows for j in range(len(stretch.ids))]
        looks = any(row.patch.schedule.looks for stretch in self.stretches for row in stretch.rows)
        if looks:
            # Whether a patch is applied depends on both models' top-1 tokens, so the unpatched pass comes first.
            entries = {row.patch.entry for stretch in self.stretches for row in stretch.rows} - {0}
            with reading(self.rounds.target, [Site(entry - 1) for entry in entries]) as read:
                target_hidden = self._read_target([], activations, None)[0]
            resting = self._rest(patched, target_hidden, source_hidden)
            cells = self._cells(resting)
            streams = {entry: read[Site(entry - 1)][0] for entry in entries}
            cell_hidden = self._read_target(cells, activations, streams)[1] if cells else target_hidden[:0]
        else:
            cells = self._cells({})
            target_hidden, cell_hidden = self._read_target(cells, activations, None)
            there = Counter((cell.stretch, cell.j) for cell in cells)
            rests = [(s, j) for s, j in patched if there[s, j] < len(self.stretches[s].rows)]
            resting = self._rest(rests, target_hidden, source_hidden)
        steps = self._score(cells, target_hidden, source_hidden, cell_hidden)
        predicted = self._predicted(target_hidden, source_hidden)
        return [self._collected(s, predicted.get(s), steps, resting) for s in range(len(self.stretches))]

    def _read_source(self) -> tuple[Float[Tensor, "S D"], Mapping[Site, Tensor]]:
        """Return the source's last hidden states, and its activations [S, ·] at every patched site."""
        tokens = self._tokens("source_lane")
        sites = {site for stretch in self.stretches for row in stretch.rows for site in row.patch.sites}
        if not tokens:
            return torch.empty(0, 0, device=self.rounds.device), {}
        with reading(self.rounds.source, sites) as activations:
            packing = Packing(tokens, self.rounds.source_device)
            hidden = packed_pass(self.rounds.source, packing, self.rounds.source_past)
        return hidden, {site: activation[0] for site, activation in activations.items()}

    def _read_target(
        self, cells: list[_Cell], activations: Mapping[Site, Tensor], streams: Mapping[int, Tensor] | None
    ) -> tuple[Float[Tensor, "S D"], Float[Tensor, "C D"]]:
        """Return the target's last hidden states at the chunks' tokens and at the patched positions `cells`.

        If `streams` (the target's hidden states before each start block) is given, only the cells are computed.
        """
        base = self._tokens("target_lane") if streams is None else []
        patched = [self._token(cell) for cell in cells]
        if not base and not patched:
            return torch.empty(0, 0, device=self.rounds.device), torch.empty(0, 0, device=self.rounds.device)
        joins: dict[int, tuple[Tensor | None, Tensor]] = {}
        for entry in {token.entry for token in patched} - {0}:
            places = [self._place("target_lane", c) for c, t in zip(cells, patched, strict=True) if t.entry == entry]
            joins[entry] = (None if streams is None else streams[entry], self._indices(places))
        hidden = packed_pass(
            self.rounds.target,
            Packing([*base, *patched], self.rounds.device),
            self.rounds.target_past,
            joins,
            self._edits(cells, activations, len(base)),
        )
        return hidden[: len(base)], hidden[len(base) :]

    def _edits(self, cells: list[_Cell], activations: Mapping[Site, Tensor], offset: int) -> dict[Site, Edit]:
        """Return for each site the edit that writes the source's activations into the cells that patch this site."""
        moved: dict[Site, tuple[list[int], list[int]]] = {}
        for i, cell in enumerate(cells):
            if cell.applied:
                for site in self._row(cell).patch.sites:
                    there, places = moved.setdefault(site, ([], []))
                    there.append(offset + i)
                    places.append(self._place("source_lane", cell))
        return {
            site: replacing(self._indices(there), activations[site], self._indices(places))
            for site, (there, places) in moved.items()
        }

    def _cells(self, unpatched: Mapping[tuple[int, int], Step]) -> list[_Cell]:
        """Return the patched positions, sorted by the block at which their computation starts.

        `unpatched` has both models' top-1 tokens at the positions where a schedule depends on them.
        """
        persistent = self.rounds.run.persistence == "persistent"
        cells = []
        for s, stretch in enumerate(self.stretches):
            for r, row in enumerate(stretch.rows):
                for j in range(len(stretch.ids)):
                    applied = self._applies(row.patch, stretch.step + j, unpatched.get((s, j)))
                    # A transient patch that is not applied equals the target; a persistent one has its own cache slot.
                    if applied or persistent:
                        cells.append(_Cell(s, r, j, applied))
        return sorted(cells, key=lambda cell: self._row(cell).patch.entry)

    def _applies(self, patch: Patch, step: int, unpatched: Step | None) -> bool:
        if unpatched is None:
            return patch.schedule.may(step)
        text_of = self.rounds.pair.prompts.token_text
        return patch.schedule.applies(step, unpatched.y_target, unpatched.y_source, text_of)

    def _rest(
        self, positions: Sequence[tuple[int, int]], target: Tensor, source: Tensor
    ) -> dict[tuple[int, int], Step]:
        """Score the unpatched target at (chunk, position) pairs, for rows whose patch is not applied there."""
        rested: dict[tuple[int, int], Step] = {}
        for block in _blocks(positions):
            logits = self._unembed(self.rounds.target, target[self._places_of("target_lane", block, target.device)])
            scores = self._contexts(logits, source, block).score(logits, [1] * len(block), [False] * len(block))
            steps = Steps(scores.cpu().numpy())
            rested |= zip(block, steps, strict=True)
        return rested

    def _score(
        self, cells: list[_Cell], target: Tensor, source: Tensor, patched: Tensor
    ) -> dict[tuple[int, int, int], Step]:
        """Score cells by (chunk, row, position), a few at a time, so that few logits are in memory."""
        at: dict[tuple[int, int], list[int]] = defaultdict(list)
        for number, cell in enumerate(cells):
            at[cell.stretch, cell.j].append(number)
        steps: dict[tuple[int, int, int], Step] = {}
        for block in _blocks(list(at)):
            numbers = [number for position in block for number in at[position]]
            contexts_of = [context for context, position in enumerate(block) for _ in at[position]]
            unpatched = target[self._places_of("target_lane", block, target.device)]
            chosen = patched[_indices(numbers, patched.device)]
            first, *more = torch.cat([unpatched, chosen]).split(UNEMBED_AT_ONCE)
            logits = self._unembed(self.rounds.target, first)
            contexts = self._contexts(logits[: len(block)], source, block)
            done = 0
            for of_cells in chain([logits[len(block) :]], (self._unembed(self.rounds.target, part) for part in more)):
                some = slice(done, done + len(of_cells))
                counts = Counter(contexts_of[some])
                scored = [cells[number] for number in numbers[some]]
                per_context = [counts[context] for context in range(len(block))]
                found = Steps(contexts.score(of_cells, per_context, [cell.applied for cell in scored]).cpu().numpy())
                steps |= {(cell.stretch, cell.row, cell.j): step for cell, step in zip(scored, found, strict=True)}
                done += len(of_cells)
        return steps

    def _contexts(self, of_target: Tensor, source: Tensor, positions: Sequence[tuple[int, int]]) -> Contexts:
        """Compute both models' predictions at some positions, given the target's logits there."""
        read = source[self._places_of("source_lane", positions, source.device)]
        of_source = self._unembed(self.rounds.source, read).to(of_target.device)
        return Contexts.of(of_target, of_source, self.rounds.run.direction)

    def _collected(
        self,
        s: int,
        predicted: tuple[list[int], list[int]] | None,
        steps: Mapping[tuple[int, int, int], Step],
        resting: Mapping[tuple[int, int], Step],
    ) -> Read:
        if predicted is not None:
            return Read(*predicted, [])
        stretch = self.stretches[s]
        places = range(len(stretch.ids))
        rows = [[steps.get((s, r, j)) or resting[s, j] for j in places] for r in range(len(stretch.rows))]
        return Read([step.y_target for step in rows[0]], [step.y_source for step in rows[0]], rows)

    def _predicted(self, target: Tensor, source: Tensor) -> dict[int, tuple[list[int], list[int]]]:
        """Return the target's and the source's top-1 tokens for each chunk without patches."""
        chosen: dict[str, dict[int, list[int]]] = {}
        for which, model, hidden in (
            ("target_lane", self.rounds.target, target),
            ("source_lane", self.rounds.source, source),
        ):
            asked = [s for s in self._starts[which] if not self.stretches[s].rows]
            positions = [(s, j) for s in asked for j in range(len(self.stretches[s].ids))]
            places = self._places_of(which, positions, hidden.device)
            parts = places.split(UNEMBED_AT_ONCE) if len(places) else []
            tokens = iter([token for p in parts for token in self._unembed(model, hidden[p]).argmax(-1).tolist()])
            chosen[which] = {s: list(islice(tokens, len(self.stretches[s].ids))) for s in asked}
        return {
            s: (chosen["target_lane"].get(s, []), chosen["source_lane"].get(s, []))
            for s, stretch in enumerate(self.stretches)
            if not stretch.rows
        }

    def _unembed(self, model: nn.Module, hidden: Tensor) -> Tensor:
        return unembed(model, hidden, float32=self.rounds.run.float32_unembedding)

    def _tokens(self, which: str) -> list[Token]:
        """Return the unpatched tokens of all chunks that this model reads, chunk by chunk."""
        return [
            Token(id, stretch.start + j, getattr(stretch, which))
            for stretch in self.stretches
            if getattr(stretch, which) is not None
            for j, id in enumerate(stretch.ids)
        ]

    def _token(self, cell: _Cell) -> Token:
        stretch, row = self.stretches[cell.stretch], self._row(cell)
        position = stretch.start + cell.j
        if row.lane is not None:
            return Token(stretch.ids[cell.j], position, row.lane, row.patch.entry)
        assert stretch.target_lane is not None
        return Token(stretch.ids[cell.j], position, stretch.target_lane, row.patch.entry, apart=True)

    def _row(self, cell: _Cell) -> Row:
        return self.stretches[cell.stretch].rows[cell.row]

    def _place(self, which: str, cell: _Cell) -> int:
        return self._starts[which][cell.stretch] + cell.j

    def _places_of(self, which: str, positions: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """Return the indices of (chunk, position) pairs among the tokens of `_tokens`."""
        return _indices([self._starts[which][s] + j for s, j in positions], device)

    @cached_property
    def _starts(self) -> dict[str, dict[int, int]]:
        """The index of each chunk's first token among the tokens of `_tokens`, for target and source."""
        starts: dict[str, dict[int, int]] = {}
        for which in ("target_lane", "source_lane"):
            count, starts[which] = 0, {}
            for s, stretch in enumerate(self.stretches):
                if getattr(stretch, which) is not None:
                    starts[which][s] = count
                    count += len(stretch.ids)
        return starts

    def _indices(self, values: Sequence[int]) -> Tensor:
        return _indices(values, self.rounds.device)


def _indices(values: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=device)


def _blocks(positions: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
    for start in range(0, len(positions), CONTEXTS_AT_ONCE):
        yield positions[start : start + CONTEXTS_AT_ONCE]
