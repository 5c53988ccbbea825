"""The cached engine: generate under many patches of many prompts in one batch, with speculative drafts of tokens.

Rows (one patch after one prompt) that have generated the same text so far share it: both models read it once. Each
batched step reads the last token of every text and its draft, if it has one; a row keeps the part of the draft that it
would have generated, and one more token. Rows whose tokens differ continue in separate texts.

The unpatched models' answers can be generated in the same batch; only their tokens are added to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from crosspatch.models.pair import ModelPair
from crosspatch.patching.drafts import Drafts
from crosspatch.patching.rounds import Read, Rounds, Row, Stretch
from crosspatch.patching.trajectory import OwnText, PatchRun, Prompt, Trajectory, Written

# The first and the largest length of a draft: the length doubles if all its tokens were kept, and else halves.
FIRST_REACH, LONGEST_REACH = 8, 64
# Up to this many tokens in a batched step, by type of device, drafts are nearly free, since reading the weights
# dominates. With more tokens there are no drafts: rejected drafts would cost their computation.
FREE_TOKENS = {"cpu": 24}
FREE_TOKENS_ELSEWHERE = 256


@dataclass
class _Writer:
    """One generation: by a patched row, or by an unpatched model if `row` is None."""

    written: Trajectory | OwnText
    row: Row | None = None
    by_target: bool = False


@dataclass
class _Text:
    """One text, and all writers that have generated exactly this text so far."""

    prompt: int
    tokens: list[int]
    target_lane: int | None
    source_lane: int | None
    writers: list[_Writer]
    reach: int = FIRST_REACH

    @property
    def needs_target(self) -> bool:
        return any(writer.row is not None or writer.by_target for writer in self.writers)

    @property
    def needs_source(self) -> bool:
        return any(writer.row is not None or not writer.by_target for writer in self.writers)


@torch.inference_mode()
def run_cached(pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun) -> list[Written]:
    """Generate from each prompt under each of its patches separately; trajectories equal the reference engine's."""
    return _Lockstep(pair, prompts, run).written()


class _Lockstep:
    """The state of a run: all its texts while they are generated."""

    def __init__(self, pair: ModelPair, prompts: Sequence[Prompt], run: PatchRun) -> None:
        positions = max((len(prompt.ids) for prompt in prompts), default=0) + run.max_new_tokens
        # In the worst case each writer has its own text; each persistent row also has its own cache slot.
        rows = sum(len(prompt.patches) for prompt in prompts)
        answers = sum(2 for prompt in prompts if prompt.answers)
        self.rounds = Rounds(pair, run, positions, answers + rows * (2 if run.persistence == "persistent" else 1))
        self.prompts, self.run = prompts, run
        self.stops = pair.stop_tokens
        self.drafts = [Drafts(prompt.ids, prompt.known) for prompt in prompts]
        self.results = [
            Written([Trajectory(patch, len(prompt.ids)) for patch in prompt.patches], OwnText(), OwnText())
            for prompt in prompts
        ]

    def written(self) -> list[Written]:
        texts = self._opened()
        total = sum(len(text.writers) for text in texts)
        label = f"{total} texts of {len(self.prompts)} prompts"
        with tqdm(total=total * self.run.max_new_tokens, desc=label, unit="token", leave=False) as bar:
            while texts:
                drafts = self._drafted(texts)
                stretches = [self._stretch(text, draft) for text, draft in zip(texts, drafts, strict=True)]
                reads = self.rounds.read(stretches)
                texts = [
                    onward
                    for text, draft, read in zip(texts, drafts, reads, strict=True)
                    for onward in self._go_on(text, draft, read, bar)
                ]
        return self.results

    def _opened(self) -> list[_Text]:
        """Open a text with all its writers for each prompt, and prefill the prompt except for its last token."""
        texts = []
        for p, (prompt, result) in enumerate(zip(self.prompts, self.results, strict=True)):
            writers = [_Writer(t, Row(t.patch)) for t in result.trajectories]
            if prompt.answers:
                writers += [_Writer(result.target, by_target=True), _Writer(result.source)]
            if writers:
                lanes = (self.rounds.target_past.open(), self.rounds.source_past.open())
                texts.append(_Text(p, [], *lanes, writers))
        self.rounds.prefill([(self.prompts[t.prompt].ids[:-1], t.target_lane, t.source_lane) for t in texts])
        if self.run.persistence == "persistent":
            for text in texts:
                for writer in text.writers:
                    if writer.row is not None and text.target_lane is not None:
                        read = len(self.prompts[text.prompt].ids) - 1
                        writer.row.lane = self.rounds.target_past.fork(text.target_lane, read)
        return texts

    def _drafted(self, texts: list[_Text]) -> list[list[int]]:
        """Draft the next tokens of each text from a known text, or from an earlier place with the same tokens.

        The shortest texts get their drafts first, because they determine the number of batched steps.
        """
        drafts: list[list[int]] = [[] for _ in texts]
        free = FREE_TOKENS.get(self.rounds.device.type, FREE_TOKENS_ELSEWHERE) - len(texts)
        for i in sorted(range(len(texts)), key=lambda i: len(texts[i].tokens)):
            text = texts[i]
            limit = min(self.run.max_new_tokens - len(text.tokens) - 1, text.reach, free)
            if limit > 0:
                lookup = self.drafts[text.prompt]
                drafts[i] = lookup.follow(text.tokens, limit) or lookup.look_up(text.tokens, limit)
                free -= len(drafts[i])
        return drafts

    def _stretch(self, text: _Text, draft: list[int]) -> Stretch:
        prompt = self.prompts[text.prompt].ids
        last = text.tokens[-1] if text.tokens else prompt[-1]
        return Stretch(
            ids=[last, *draft],
            start=len(prompt) + len(text.tokens) - 1,
            step=len(text.tokens),
            target_lane=text.target_lane if text.needs_target else None,
            source_lane=text.source_lane if text.needs_source else None,
            rows=[writer.row for writer in text.writers if writer.row is not None],
        )

    def _go_on(self, text: _Text, draft: list[int], read: Read, bar: tqdm[Any]) -> list[_Text]:
        """Append each writer's next tokens; return the texts of the writers that have not finished."""
        rows = iter(read.rows)
        groups: dict[tuple[int, ...], list[_Writer]] = defaultdict(list)
        for writer in text.writers:
            if isinstance(writer.written, Trajectory):
                steps = next(rows)
                new_tokens = self._kept([step.token for step in steps], draft)
                writer.written.steps += steps[: len(new_tokens)]
            else:
                new_tokens = self._kept(read.target_tokens if writer.by_target else read.source_tokens, draft)
                writer.written.tokens += new_tokens
            bar.update(len(new_tokens))
            if new_tokens[-1] in self.stops:
                writer.written.stop_reason = "eos"
            elif len(text.tokens) + len(new_tokens) < self.run.max_new_tokens:
                groups[tuple(new_tokens)].append(writer)
                continue
            bar.update(self.run.max_new_tokens - len(text.tokens) - len(new_tokens))
            if writer.row is not None and writer.row.lane is not None:
                self.rounds.target_past.close(writer.row.lane)
        return self._parted(text, draft, groups)

    def _kept(self, predicted: list[int], draft: list[int]) -> list[int]:
        """Return a writer's next tokens: the part of the draft that it predicts and one more, up to a stop token."""
        new_tokens = [predicted[0]]
        for drafted, after in zip(draft, predicted[1:], strict=True):
            if new_tokens[-1] != drafted or drafted in self.stops:
                break
            new_tokens.append(after)
        return new_tokens

    def _parted(self, text: _Text, draft: list[int], groups: dict[tuple[int, ...], list[_Writer]]) -> list[_Text]:
        """Split a text into one for each group of writers; the last one keeps the cache slots, others get copies."""
        target, source = self.rounds.target_past, self.rounds.source_past
        length = len(text.tokens)
        before = len(self.prompts[text.prompt].ids) - 1 + length
        onward: list[_Text] = []
        for new_tokens, writers in groups.items():
            reach = text.reach
            if draft:
                kept_all = len(new_tokens) == len(draft) + 1
                reach = min(2 * reach, LONGEST_REACH) if kept_all else max(reach // 2, 1)
            # The last group keeps the list too, so that drafts noted earlier include its later tokens.
            tokens = text.tokens if len(onward) == len(groups) - 1 else list(text.tokens)
            tokens += new_tokens
            self.drafts[text.prompt].note(tokens, length + 1)
            onward.append(_Text(text.prompt, tokens, None, None, writers, reach))
        for i, new in enumerate(onward):
            read = before + len(new.tokens) - length
            # The last group keeps the original cache slots.
            last = i == len(onward) - 1
            if new.needs_target:
                assert text.target_lane is not None
                new.target_lane = text.target_lane if last else target.fork(text.target_lane, read)
            if new.needs_source:
                assert text.source_lane is not None
                new.source_lane = text.source_lane if last else source.fork(text.source_lane, read)
        kept = onward[-1] if onward else None
        if text.target_lane is not None and (kept is None or kept.target_lane is None):
            target.close(text.target_lane)
        if text.source_lane is not None and (kept is None or kept.source_lane is None):
            source.close(text.source_lane)
        return onward
