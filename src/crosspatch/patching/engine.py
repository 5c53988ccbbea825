"""The cached engine: generate under many patches of many prompts at once, along texts that both models read once.

First the target writes its own text; this is the draft of the source's text, and both are drafts of all rows (one patch
after one prompt). Where the unpatched models predict the same token, patched rows nearly always agree. So rows are
computed along a text up to the first position at which the models differ; there they split, and continue in a text
each. Where the models differ often, everything is written side by side instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crosspatch.models.pair import ModelPair
from crosspatch.patching.drafts import LONGEST, PASS_COST, PASS_COST_ELSEWHERE, DraftLengths, Drafts
from crosspatch.patching.rounds import CELLS_AT_ONCE, SOURCE, TARGET, Cells, Rounds, Text
from crosspatch.patching.scores import ScoreLog
from crosspatch.patching.trajectory import OwnText, PatchRun, Prompt, Trajectory, Written
from crosspatch.patching.two_stream.packing import Whole

# After this many tokens of the target's text, rows are written beside it if the models differ at more than this share.
PROBE, MOST_DIFFERENT = 16, 0.25
# At the end of a text, the target continues it alone until the models still agree with this probability.
LIKELY = 0.5
# Where rows are computed beyond a position at which the models differ, at most this many patched positions of a text.
FURTHER = 256


_NO_ROWS = np.array([], np.int64)


@dataclass(eq=False)
class _Group:
    """Rows that have generated the same text so far: the first `at` tokens of `text`, the prompt included.

    With `own`, it is this unpatched model that writes its own text, and there are no rows; or, with `until`, continues
    a text of rows, to this length at least.
    """

    text: Text
    at: int
    rows: Whole
    own: int | None = None
    until: int | None = None


@dataclass
class _State:
    """One prompt while texts are generated after it.

    `first_row` is the number of its first row. `own` are the target's and the source's own text. `ahead` is whether the
    rows wait until these have been written; None: not known yet. All rows have passed the first `passed` positions.
    """

    prompt: Prompt
    drafts: Drafts
    result: Written
    first_row: int
    groups: dict[Text, list[_Group]] = field(default_factory=dict)
    own: list[Text] = field(default_factory=list)
    ahead: bool | None = None
    passed: int = 0


@torch.inference_mode()
def run_cached(pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun) -> list[Written]:
    """Generate from each prompt under each of its patches separately; trajectories equal the reference engine's."""
    patches = [patch for prompt in prompts for patch in prompt.patches]
    positions = max((len(prompt.ids) for prompt in prompts), default=0) + run.max_new_tokens
    # In the worst case each row has its own text; each persistent row also has its own cache slot.
    slots = 2 * len(prompts) + len(patches) * (2 if run.persistence == "persistent" else 1)
    with Rounds(pair, run, patches, positions, slots) as rounds:
        return _Engine(rounds, prompts).written()


class _Engine:
    """The texts of a run while they are generated, in rounds of one pass of each model."""

    def __init__(self, rounds: Rounds, prompts: Sequence[Prompt]) -> None:
        self.rounds, self.run = rounds, rounds.run
        self.stops = np.array(sorted(rounds.pair.stop_tokens), np.int64)
        self.lengths = DraftLengths(PASS_COST.get(rounds.device.type, PASS_COST_ELSEWHERE))
        # At how many positions passed by rows the models were compared, and agreed; begun as if they agreed at 3 of 4.
        self.agreed, self.compared = 3, 4
        # By row: at how many positions the models differed, and at how many of these the row followed its text.
        self.differed, self.followed = (np.zeros(len(rounds.patches)) for _ in range(2))
        self.log = ScoreLog()
        # How much of a text is not replaced, since it is an unpatched model's finished text.
        self.finished: dict[Text, int] = {}
        # By group that has not continued in this round yet: how much of its text it may follow.
        self.reached: dict[_Group, int] = {}
        self.states: list[_State] = []
        rows = 0
        for p, prompt in enumerate(prompts):
            trajectories = [Trajectory(patch, len(prompt.ids)) for patch in prompt.patches]
            state = _State(prompt, Drafts(prompt.ids, prompt.known), Written(trajectories, OwnText(), OwnText()), rows)
            if prompt.patches or prompt.answers:
                text = rounds.open(p, prompt.ids)
                text.guide = state.drafts.first
                state.own = [text, text]
                at = len(prompt.ids)
                state.groups[text] = [_Group(text, at, _NO_ROWS, own) for own in (TARGET, SOURCE)]
                if prompt.patches:
                    state.groups[text].append(_Group(text, at, np.arange(rows, rows + len(prompt.patches))))
            rows += len(prompt.patches)
            self.states.append(state)

    def written(self) -> list[Written]:
        """Generate all texts to their ends."""
        groups = [group for state in self.states for here in state.groups.values() for group in here]
        total = sum(len(group.rows) or 1 for group in groups)
        label = f"{total} texts of {len(self.states)} prompts"
        with tqdm(total=total * self.run.max_new_tokens, desc=label, unit="token", leave=False) as bar:
            while groups := self._next():
                self._round(groups, bar)
        steps = self.log.split(len(self.rounds.patches))
        for state in self.states:
            for i, trajectory in enumerate(state.result.trajectories):
                trajectory.steps = steps[state.first_row + i]
            if not state.prompt.answers:
                state.result.target, state.result.source = OwnText(), OwnText()
        return [state.result for state in self.states]

    def _next(self) -> list[_Group]:
        """Return the groups of the next round.

        Unless the models differ often, rows wait while an unpatched model writes the text that they follow, and at the
        end of a text until the target has continued it by a few tokens. Meanwhile only the target runs. It continues
        all texts until the last is long enough, since a further text makes a pass only a little longer.
        """
        alone: list[_Group] = []
        by_source: list[_Group] = []
        ready: list[_Group] = []
        scouting = False
        for state in self.states:
            groups = [group for here in state.groups.values() for group in here]
            own = {group.own: group for group in groups if group.own is not None and group.until is None}
            rows = [group for group in groups if group.own is None]
            if groups and state.ahead is None and (first := self._probing(state, own, bool(rows))) is not None:
                (alone, by_source)[first].append(own[first])
                continue
            if rows and self.run.persistence == "persistent" and self.rounds.row_slots[state.first_row] < 0:
                past, text = self.rounds.pasts[TARGET], state.own[TARGET]
                for row in rows[0].rows:
                    self.rounds.row_slots[row] = past.fork(text.slots[TARGET], text.start)
            if not state.ahead:
                if not state.prompt.answers:
                    # Nothing needs the unpatched models' own texts: no row waits for them.
                    for group in own.values():
                        state.groups[group.text].remove(group)
                    groups = rows
                ready += groups
                continue
            written = {group.text for group in own.values()}
            free = [group for group in rows if group.text not in written or self._parts(group)]
            scouts = [group for group in groups if group.until is not None]
            scouts = scouts or [scout for group in free if (scout := self._scout(state, group)) is not None]
            scouting |= any(scout.at < (scout.until or 0) for scout in scouts)
            alone += [*scouts, *(group for model, group in own.items() if model == TARGET)]
            by_source += [group for model, group in own.items() if model == SOURCE]
            ready += free
        if scouting or (alone and not ready):
            return alone
        for scout in [group for group in alone if group.until is not None]:
            self.states[scout.text.prompt].groups[scout.text].remove(scout)
            alone.remove(scout)
        return ready + by_source + alone if ready else by_source

    def _parts(self, group: _Group) -> bool:
        """Whether both models have read on to a position at which a group's rows may part."""
        step = self._end(group, min(group.text.read)) - 1 - group.text.start
        return step >= group.at - 1 - group.text.start and group.text.top[TARGET][step] != group.text.top[SOURCE][step]

    def _probing(self, state: _State, own: Mapping[int, _Group], rows: bool) -> int | None:
        """Return the model that has to read on before it is known if a prompt's rows wait; None: now it is."""
        written, read = len(state.result.target.tokens), len(state.own[TARGET].top[SOURCE])
        if TARGET in own and written < PROBE:
            return TARGET
        if rows and SOURCE in own and read < min(written, PROBE):
            return SOURCE
        differ = [one != other for one, other in zip(*state.own[TARGET].top, strict=False)]
        state.ahead = not rows or sum(differ) <= MOST_DIFFERENT * len(differ)
        return None

    def _scout(self, state: _State, group: _Group) -> _Group | None:
        """Let the target continue a text from the end that rows have reached, as far as the models may well agree."""
        length = int(math.log(LIKELY) / math.log(self.agreed / self.compared))
        if group.at < len(group.text.ids) or length == 0:
            return None
        scout = _Group(group.text, group.at, _NO_ROWS, TARGET, group.at + min(length, LONGEST))
        state.groups[group.text].append(scout)
        return scout

    def _round(self, groups: Sequence[_Group], bar: tqdm[Any]) -> None:
        """Read on in all texts, compute the rows along them, and let each group continue."""
        furthest: dict[Text, int] = {}
        for group in groups:
            furthest[group.text] = max(group.at, furthest.get(group.text, 0))
        at_end = [text for text, at in furthest.items() if at == len(text.ids)]
        lengths = [len(text.ids) for text in at_end]
        drafted = [(text, n, self._draft(text, len(at_end))) for text, n in zip(at_end, lengths, strict=True)]
        wanted: tuple[dict[Text, int], dict[Text, int]] = ({}, {})
        for group in groups:
            text = group.text
            upto = min(len(text.ids), group.at + LONGEST, text.start + self.run.max_new_tokens)
            for model in (TARGET, SOURCE) if group.own is None else (group.own,):
                wanted[model][text] = max(upto, wanted[model].get(text, 0))
        self.rounds.read(SOURCE, [*wanted[SOURCE].items()])
        with_rows = [group for group in groups if group.own is None]
        ends = [self._end(group, wanted[TARGET][group.text]) for group in with_rows]
        cells = _cells(zip(with_rows, ends, strict=True))
        scores = self.rounds.read(TARGET, [*wanted[TARGET].items()], cells)
        for text, length, rule in drafted:
            if rule is not None:
                self.lengths.note(rule, self._kept(text, length), len(text.ids) - length)
        self._split(groups, cells, scores, bar)
        for state in self.states:
            self._tidy(state)

    def _split(self, groups: Sequence[_Group], cells: Cells, scores: Tensor, bar: tqdm[Any]) -> None:
        """Let each group continue by what was predicted, and log the scores of the steps that are kept."""
        tokens, rows, done = scores[:, 0].cpu().numpy().astype(np.int64), cells.row.copy(), 0
        # Texts change while groups continue, so what was read comes first.
        found, spans = [], list[Whole]()
        sizes = np.bincount(cells.text, minlength=len(cells.texts)).tolist()
        for group in groups:
            first, text = group.at - 1 - group.text.start, group.text
            if group.own is None:
                size = sizes[len(spans)]
                predicted = tokens[done : done + size].reshape(-1, len(group.rows))
                spans.append(rows[done : done + size].reshape(predicted.shape))
                done += size
            else:
                predicted = np.array(text.top[group.own][first:])[:, None]
            count = len(predicted)
            follows = text.ids[group.at : group.at + count]
            known = np.array(follows + [-1] * (count - len(follows)))
            differ = np.array([a != b for a, b in zip(*(of[first : first + count] for of in text.top), strict=False)])
            found.append((group, predicted, known, differ))
            self.reached[group] = group.at + len(follows)
        with_rows = iter(spans)
        for group, predicted, known, differ in found:
            last = self._advance(group, predicted, known, bar)
            if group.own is None:
                kept = np.arange(len(predicted))[:, None] <= last
                self.differed[group.rows] += (kept & differ[:, None]).sum(0)
                self.followed[group.rows] += (kept & differ[:, None] & (predicted == known[:, None])).sum(0)
                self.agreed, self.compared = self.agreed + int((~differ).sum()), self.compared + len(differ)
                next(with_rows)[~kept] = -1
        self.log.add(rows, scores)

    def _draft(self, text: Text, texts: int) -> str | None:
        """Append a draft to a text; return the rule by which it was found, or None without a draft."""
        found = self.states[text.prompt].drafts.guide(text.ids, text.guide)
        room = text.start + self.run.max_new_tokens - len(text.ids)
        length = min(room, self.lengths.length(found[0], texts)) if found else 0
        if found is None or length <= 0:
            return None
        rule, (there, ahead) = found
        text.guide = there, ahead
        # One by one, since a text may repeat itself.
        while length and len(text.ids) + ahead < len(there):
            text.ids.append(there[len(text.ids) + ahead])
            length -= 1
        return rule

    def _kept(self, text: Text, length: int) -> int:
        """Return how many tokens after the first `length` either model predicts, of those read, up to a stop token."""
        for i, token in enumerate(text.ids[length:]):
            step = length + i - 1 - text.start
            if (i and text.ids[length + i - 1] in self.stops) or token not in [
                of[step] for of in text.top if step < len(of)
            ]:
                return i
        return len(text.ids) - length

    def _end(self, group: _Group, read: int) -> int:
        """Return where a group's rows stop, of the positions `read`: after the first at which they will likely part.

        Where the models differ, they part unless its rows have mostly followed their texts at such positions.
        """
        text, start, rows = group.text, group.text.start, len(group.rows)
        end = min(read, text.read[SOURCE], group.at - 1 + max(1, CELLS_AT_ONCE // rows))
        likely, follows, last = 1.0, self._follows(group), end
        for position in range(group.at - 1, end):
            step, following = position - start, text.ids[position + 1 : position + 2]
            predicted = [of[step : step + 1] for of in text.top]
            if any(one not in ([], following) for one in predicted) or not following:
                likely *= follows
                last = min(last, position + 1 + FURTHER // rows)
                if likely <= 0.5 or following not in predicted or position + 1 >= last:
                    return position + 1
        return last

    def _follows(self, group: _Group) -> float:
        """Return how likely a group's rows follow their text where the models differ."""
        return float(((self.followed[group.rows] + 1) / (self.differed[group.rows] + 2)).mean())

    def _advance(self, group: _Group, predicted: Whole, known: Whole, bar: tqdm[Any]) -> Whole:
        """Let a group continue by tokens predicted at P positions, [P, R]; return the last step that each row keeps.

        A row keeps the predictions up to the first that is not the `known` next token of its text, [P].
        """
        text, state = group.text, self.states[group.text.prompt]
        leaves = (predicted != known[:, None]) | np.isin(predicted, self.stops)
        leaves[-1] = True
        last = leaves.argmax(0)
        token, position = predicted[last, np.arange(len(last))], group.at - 1 + last
        stopped = np.isin(token, self.stops)
        left = self.run.max_new_tokens - (position - text.start + 1)
        done = stopped | (left <= 0)
        if group.until is None:
            bar.update(int((last + 1 + left * done).sum()))
        state.groups[text].remove(group)
        del self.reached[group]
        if group.own is not None:
            at = int(position[0]) + 2
            there = self._placed(group, at - 2, int(token[0]))
            if not done[0]:
                state.groups[there].append(replace(group, text=there, at=at))
            if group.until is None:
                state.own[group.own] = there
                written = (state.result.target, state.result.source)[group.own]
                written.tokens += predicted[: last[0] + 1, 0].tolist()
                if done[0]:
                    written.stop_reason = "eos" if stopped[0] else "limit"
                    self.finished[there] = at
            return last
        for row in group.rows[stopped]:
            state.result.trajectories[row - state.first_row].stop_reason = "eos"
        for slot in self.rounds.row_slots[group.rows[done]]:
            if slot >= 0:
                self.rounds.pasts[TARGET].close(int(slot))
        # Those that follow the text furthest come first: they stay in it, and the others get copies.
        keys, index = np.unique(token[~done] - (position[~done] << 32), return_inverse=True)
        for i in range(len(keys)):
            rows = group.rows[~done][index == i]
            one = int(np.flatnonzero(~done)[index == i][0])
            there, at = self._placed(group, int(position[one]), int(token[one])), int(position[one]) + 2
            for other in state.groups[there]:
                if other.own is None and other.at == at and other not in self.reached:
                    other.rows = np.concatenate([other.rows, rows])
                    break
            else:
                state.groups[there].append(_Group(there, at, rows))
        return last

    def _placed(self, group: _Group, position: int, token: int) -> Text:
        """Return the text in which a group continues with a token after a position; a new one, if there is none."""
        text, state, length = group.text, self.states[group.text.prompt], position + 1
        if text.ids[length : length + 1] != [token]:
            child = text.children.get((length, token))
            if child is not None and child in state.groups:
                return child
            before = list(text.ids)
            needed = (self.reached.get(other, other.at) for other in state.groups[text])
            if max([self.finished.get(text, 0), *needed]) <= length:
                self.rounds.cut(text, length)
            else:
                new = text.children[length, token] = self.rounds.fork(text, length)
                state.groups[new] = []
                new.guide, text = text.guide, new
            text.ids.append(token)
            if len(before) > length:
                text.guide = before, 0
        state.drafts.note(text.ids, group.at, length + 1)
        return text

    def _tidy(self, state: _State) -> None:
        """Free what no group needs: texts, and what is kept of positions that all rows have passed."""
        going = any(state.groups.values())
        for text in [text for text, here in state.groups.items() if not here and not (going and text in state.own)]:
            self.rounds.close_text(text)
            del state.groups[text]
        passed = min((g.at - 1 for here in state.groups.values() for g in here if g.own is None), default=0)
        for text in state.groups:
            self.rounds.release(text, state.passed, passed)
        state.passed = max(state.passed, passed)


def _cells(spans: Iterable[tuple[_Group, int]]) -> Cells:
    """Return the cells of all rows of groups at the positions from each group's last token up to an end."""
    texts, text, position, row = [], [_NO_ROWS], [_NO_ROWS], [_NO_ROWS]
    for i, (group, end) in enumerate(spans):
        texts.append(group.text)
        positions = np.arange(group.at - 1, end)
        text.append(np.full(len(positions) * len(group.rows), i))
        position.append(np.repeat(positions, len(group.rows)))
        row.append(np.tile(group.rows, len(positions)))
    return Cells(texts, *map(np.concatenate, (text, position, row)))
