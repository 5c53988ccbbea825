"""One round: both models read on in some texts, and every patch of each text is computed beside them and scored.

This is where the two streams meet: the source is read for its activations; the target is read, and in the same pass
its patched positions. What becomes of the scores (a text that goes on, a table) is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crosspatch.models.hooks import Edit, reading
from crosspatch.models.linear import fast_linear
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import score_states, to_lists
from crosspatch.patching.trajectory import PatchRun, Step
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import packed_pass

# Positions that are unembedded at once: enough to use the processor well, few enough to stay in its cache.
UNEMBED_AT_ONCE = 96


@dataclass
class Row:
    """One patch of one text; `lane` keeps its own past where the patch is persistent."""

    patch: Patch
    lane: int | None = None


@dataclass
class Stretch:
    """The next tokens of one text: `ids` stand at `start` and after, and each predicts one step from `step` on.

    A lane of None means that this model does not read the text; patched rows need both.
    """

    ids: list[int]
    start: int
    step: int
    target_lane: int | None
    source_lane: int | None
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Read:
    """What a round says about one stretch.

    The next tokens that target and source would write after each position (empty where they did not read it), and
    for each row the scores of each position.
    """

    target_tokens: list[int]
    source_tokens: list[int]
    rows: list[list[Step]]


@dataclass(frozen=True)
class _Cell:
    """One patched position: row `row` of stretch `stretch`, its `j`-th position; `applied` if anything is moved."""

    stretch: int
    row: int
    j: int
    applied: bool


class Rounds:
    """Rounds of one pair, with the keys and values that texts leave in both models."""

    def __init__(self, pair: ModelPair, run: PatchRun) -> None:
        self.pair, self.run = pair, run
        self.target, self.source = pair.oriented(run.direction)
        self.target_past, self.source_past = KeyValues(), KeyValues()
        self.device = pair.clean.device

    def prefill(self, texts: Sequence[tuple[list[int], int | None, int | None]]) -> None:
        """Let the models read texts whose steps are not scored: (ids, target lane, source lane) each."""
        for model, past, which in ((self.target, self.target_past, 1), (self.source, self.source_past, 2)):
            tokens = [
                Token(id, position, text[which])  # type: ignore[arg-type]
                for text in texts
                if text[which] is not None
                for position, id in enumerate(text[0])
            ]
            if tokens:
                packed_pass(model, Packing(tokens, self.device), past)

    def read(self, stretches: Sequence[Stretch]) -> list[Read]:
        """One round over all stretches; lanes hold their tokens afterwards."""
        with fast_linear(self.target), fast_linear(self.source):
            return _Round(self, stretches).scored()


@dataclass(frozen=True)
class _Round:
    """One round, while it goes on."""

    rounds: Rounds
    stretches: Sequence[Stretch]

    def scored(self) -> list[Read]:
        source_hidden, activations = self._read_source()
        looks = any(row.patch.schedule.looks for stretch in self.stretches for row in stretch.rows)
        if looks:
            # Whether a patch is applied depends on what both models want: they are read first.
            entries = {row.patch.entry for stretch in self.stretches for row in stretch.rows} - {0}
            with reading(self.rounds.target, [Site(entry - 1) for entry in entries]) as read:
                target_hidden = self._read_target([], activations, None)[0]
            wants = self._choices(target_hidden, source_hidden)
            cells = self._cells(wants)
            streams = {entry: read[Site(entry - 1)][0] for entry in entries}
            cell_hidden = self._read_target(cells, activations, streams)[1] if cells else target_hidden[:0]
        else:
            cells = self._cells(None)
            target_hidden, cell_hidden = self._read_target(cells, activations, None)
        return self._score(cells, target_hidden, source_hidden, cell_hidden)

    def _read_source(self) -> tuple[Float[Tensor, "S D"], Mapping[Site, Tensor]]:
        """The source's last hidden states, and its activations at every site that is moved, [S, ·] each."""
        tokens = self._tokens("source_lane")
        sites = {site for stretch in self.stretches for row in stretch.rows for site in row.patch.sites}
        if not tokens:
            return torch.empty(0, 0, device=self.rounds.device), {}
        with reading(self.rounds.source, sites) as activations:
            hidden = packed_pass(self.rounds.source, Packing(tokens, self.rounds.device), self.rounds.source_past)
        return hidden, {site: activation[0] for site, activation in activations.items()}

    def _read_target(
        self, cells: list[_Cell], activations: Mapping[Site, Tensor], streams: Mapping[int, Tensor] | None
    ) -> tuple[Float[Tensor, "S D"], Float[Tensor, "C D"]]:
        """The target's last hidden states: of the texts and, in the order of `cells`, of patched positions.

        With `streams` (the target's hidden states before blocks) the texts have been read, and only cells are.
        """
        base = self._tokens("target_lane") if streams is None else []
        patched = [self._token(cell) for cell in cells]
        if streams is not None and patched[0].entry > 0:
            # Blocks cannot compute nothing: one token is there from the start, and thrown away.
            first = patched[0]
            base = [Token(first.id, first.position, first.lane, apart=True)]
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
        """For each site the edit that moves the source's activations into the cells whose patch has it."""
        moved: dict[Site, tuple[list[int], list[int]]] = {}
        for i, cell in enumerate(cells):
            if cell.applied:
                for site in self._row(cell).patch.sites:
                    there, places = moved.setdefault(site, ([], []))
                    there.append(offset + i)
                    places.append(self._place("source_lane", cell))

        def edit_at(site: Site, there: Tensor, places: Tensor) -> Edit:
            def edit(stream: Tensor) -> Tensor:
                return stream.index_copy(1, there, activations[site][places][None].to(stream))

            return edit

        return {
            site: edit_at(site, self._indices(there), self._indices(places)) for site, (there, places) in moved.items()
        }

    def _cells(self, wants: list[tuple[list[int], list[int]]] | None) -> list[_Cell]:
        """The patched positions in the order in which they join; `wants` are target's and source's next tokens."""
        persistent = self.rounds.run.persistence == "persistent"
        cells = []
        for s, stretch in enumerate(self.stretches):
            for r, row in enumerate(stretch.rows):
                for j in range(len(stretch.ids)):
                    applied = self._applies(row.patch, stretch.step + j, None if wants is None else wants[s], j)
                    # Where nothing is moved a transient row is the target itself; a persistent one has its past.
                    if applied or persistent:
                        cells.append(_Cell(s, r, j, applied))
        return sorted(cells, key=lambda cell: self._row(cell).patch.entry)

    def _applies(self, patch: Patch, step: int, wants: tuple[list[int], list[int]] | None, j: int) -> bool:
        if wants is None:
            return patch.schedule.may(step)
        return patch.schedule.applies(step, wants[0][j], wants[1][j], self.rounds.pair.prompts.token_text)

    def _score(self, cells: list[_Cell], target: Tensor, source: Tensor, patched: Tensor) -> list[Read]:
        """Unembed a few positions at a time, with all that is patched there, and keep only what is asked of them."""
        number = {(cell.stretch, cell.row, cell.j): i for i, cell in enumerate(cells)}
        steps: dict[tuple[int, int, int], Step] = {}
        wants = self._choices(target, source, rows=False)
        for block in self._blocks():
            here = self._indices([self._starts["target_lane"][s] + j for s, j in block])
            there = self._indices([self._starts["source_lane"][s] + j for s, j in block])
            keys = [[(s, r, j) for r in range(len(self.stretches[s].rows))] for s, j in block]
            computed = [key for row in keys for key in row if key in number]
            logits = self._unembed(
                self.rounds.target, torch.cat([target[here], patched[self._indices([number[key] for key in computed])]])
            )
            # All rows that rest at a step are the target itself there: they are scored once.
            rests = [any(key not in number for key in row) for row in keys]
            counts = [sum(key in number for key in row) + rest for row, rest in zip(keys, rests, strict=True)]
            of_rows = logits[len(block) :]
            if any(rests):
                ahead = iter(range(len(block), len(logits)))
                picked = [
                    place
                    for i, row in enumerate(keys)
                    for place in [*(next(ahead) for key in row if key in number), *([i] if rests[i] else [])]
                ]
                of_rows = logits[self._indices(picked)]
            of_target, of_source = logits[: len(block)], self._unembed(self.rounds.source, source[there])
            corrupt = self.rounds.run.direction == "corrupt"
            clean, corrupted = (of_target, of_source) if corrupt else (of_source, of_target)
            columns = to_lists(score_states(clean, corrupted, of_rows, counts))
            listed = iter(dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
            for row, rest in zip(keys, rests, strict=True):
                for key in row:
                    if key in number:
                        steps[key] = {**next(listed), "applied": float(cells[number[key]].applied)}
                if rest:
                    resting = {**next(listed), "applied": 0.0}
                    steps |= {key: resting for key in row if key not in number}
        return [self._collected(s, stretch, wants[s], steps) for s, stretch in enumerate(self.stretches)]

    def _collected(
        self, s: int, stretch: Stretch, wants: tuple[list[int], list[int]], steps: dict[tuple[int, int, int], Step]
    ) -> Read:
        rows = [[steps[s, r, j] for j in range(len(stretch.ids))] for r in range(len(stretch.rows))]
        if not rows:
            return Read(*wants, rows)
        clean = [int(step["clean_token"]) for step in rows[0]]
        corrupted = [int(step["corrupted_token"]) for step in rows[0]]
        return Read(clean, corrupted, rows) if self.rounds.run.direction == "corrupt" else Read(corrupted, clean, rows)

    def _blocks(self) -> Iterator[list[tuple[int, int]]]:
        """The (stretch, position) pairs that have patched rows, some at a time."""
        block: list[tuple[int, int]] = []
        load = 0
        for s, stretch in enumerate(self.stretches):
            if not stretch.rows:
                continue
            for j in range(len(stretch.ids)):
                if block and load + len(stretch.rows) + 1 > UNEMBED_AT_ONCE:
                    yield block
                    block, load = [], 0
                block.append((s, j))
                load += len(stretch.rows) + 1
        if block:
            yield block

    def _choices(self, target: Tensor, source: Tensor, rows: bool = True) -> list[tuple[list[int], list[int]]]:
        """The next tokens that target and source want in each stretch; only in those without `rows` if so asked."""
        chosen: dict[str, dict[int, list[int]]] = {"target_lane": {}, "source_lane": {}}
        for which, model, hidden in (
            ("target_lane", self.rounds.target, target),
            ("source_lane", self.rounds.source, source),
        ):
            asked = [s for s in self._starts[which] if rows or not self.stretches[s].rows]
            places = [self._starts[which][s] + j for s in asked for j in range(len(self.stretches[s].ids))]
            tokens: list[int] = []
            for part in self._indices(places).split(UNEMBED_AT_ONCE):
                if len(part):
                    tokens += self._unembed(model, hidden[part]).argmax(-1).tolist()
            for s in asked:
                chosen[which][s], tokens = tokens[: len(self.stretches[s].ids)], tokens[len(self.stretches[s].ids) :]
        return [
            (chosen["target_lane"].get(s, []), chosen["source_lane"].get(s, [])) for s in range(len(self.stretches))
        ]

    def _unembed(self, model: nn.Module, hidden: Tensor) -> Tensor:
        return unembed(model, hidden, float32=self.rounds.run.float32_unembedding)

    def _tokens(self, which: str) -> list[Token]:
        """The texts' own tokens in the order of the stretches."""
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

    @cached_property
    def _starts(self) -> dict[str, dict[int, int]]:
        """For target and source the place of each stretch's first token among the texts' tokens."""
        starts: dict[str, dict[int, int]] = {}
        for which in ("target_lane", "source_lane"):
            count, starts[which] = 0, {}
            for s, stretch in enumerate(self.stretches):
                if getattr(stretch, which) is not None:
                    starts[which][s] = count
                    count += len(stretch.ids)
        return starts

    def _indices(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.rounds.device)
