"""The controls stage: something else moved to the same places, in the cells where the models disagree.

A shard is a prompt, with all controls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import polars as pl

from crosspatch.config import OWN_CONTROLS, Direction, OwnControl
from crosspatch.experiment.executors import carry_out
from crosspatch.experiment.patching import patch_run, possible_engine
from crosspatch.experiment.sharding import Files
from crosspatch.experiment.work import Work
from crosspatch.tables import CONTROLS, SCORES

if TYPE_CHECKING:
    from torch import nn

    from crosspatch.analysis.controls import Followed
    from crosspatch.analysis.given_text import GivenText
    from crosspatch.config import Engine
    from crosspatch.data.problem import Problem


# Prompts and directions whose texts are kept.
_TEXTS_KEPT = 8


def measure_controls(work: Work) -> None:
    """Score every control, prompt by prompt."""
    carry_out(ControlsStage(work))


@dataclass
class ControlsStage:
    """All controls of an experiment."""

    name: ClassVar[str] = "controls"
    work: Work
    _texts: dict[tuple[int, Direction], list[Followed]] = field(default_factory=dict)

    def plan(self) -> dict[str, Any]:
        """A shard for each patched problem; none where controls cannot be scored."""
        if self.work.experiment.patch.persistence == "persistent":
            self.work.say("controls: only transient patches can be scored along a given text; none is measured")
            return {"shards": []}
        names = self.work.experiment.moved_controls
        return {"shards": [{"prompts": [problem.id]} for problem in self.problems] if names else []}

    def do(self, shard: int) -> Files:
        """The scores of every control after one prompt; no file where these models can have none."""
        if self.engine == "reference":
            return {}
        names = self.work.experiment.moved_controls
        directions = self.work.experiment.patch.directions
        rows = CONTROLS.frame(row for direction in directions for row in self._scored(names, direction, shard))
        return {CONTROLS.path(name, shard): CONTROLS.dumped(rows.filter(control=name)) for name in names}

    def gather(self) -> None:
        """Nothing: the tables are read from their parts."""

    @cached_property
    def problems(self) -> list[Problem]:
        """The problems that were patched."""
        return self.work.patched_problems

    @cached_property
    def engine(self) -> Engine:
        """The engine that these models can use; said once where it has no controls."""
        from crosspatch.patching.patches import Patch

        patches = [Patch.parse(name) for name in self._scores[0]["patch"].unique(maintain_order=True)]
        longest = max(int(part["position"].max() or 0) for part in self._scores) + 2  # type: ignore[arg-type]
        found = possible_engine(self.work, patches, longest)
        if found == "reference":
            self.work.say("controls: these models run by the reference engine alone, which has none; none is measured")
        return found

    @cached_property
    def children(self) -> dict[str, nn.Module]:
        """The other children that are moved, by name."""
        return {name: self.work.model(name) for name in self.work.experiment.moved_controls if name not in OWN_CONTROLS}

    @cached_property
    def _scores(self) -> list[pl.DataFrame]:
        """The scores of each problem."""
        parts = self.work.directory.read(SCORES).partition_by("prompt_id", as_dict=True)
        return [parts.get((problem.id,), SCORES.frame()) for problem in self.problems]

    def _followed(self, i: int, direction: Direction) -> list[Followed]:
        """The texts that patches wrote after a prompt, looked up once."""
        if (i, direction) not in self._texts:
            # Only the last few are needed again: that of the next prompt, as another prompt's.
            while len(self._texts) > _TEXTS_KEPT:
                del self._texts[next(iter(self._texts))]
            self._texts[i, direction] = list(_followed(self.work, self._scores[i].filter(direction=direction)))
        return self._texts[i, direction]

    def _other(self, i: int, direction: Direction) -> GivenText | None:
        """A text after the next prompt of the same domain; None where there is none."""
        count = len(self.problems)
        for j in ((i + k) % count for k in range(1, count)):
            if self.problems[j].domain == self.problems[i].domain and (written := self._followed(j, direction)):
                return written[0].given
        return None

    def _scored(self, names: Sequence[str], direction: Direction, i: int) -> Iterator[dict[str, Any]]:
        """The cells of controls along the texts of a prompt; other_prompt is left out where there is no other."""
        import torch

        from crosspatch.analysis.controls import ControlReader, OtherPrompt

        pair, run, written = self.work.pair, patch_run(self.work, direction), self._followed(i, direction)
        given = self._other(i, direction) if "other_prompt" in names and written else None
        other = None if given is None else OtherPrompt(pair, given, run)
        possible = [name for name in names if other is not None or name != "other_prompt"]
        for followed in written:
            reader = ControlReader(pair, followed, run, other)
            generator = torch.Generator().manual_seed(self.work.experiment.seed * 1_000_003 + i)
            moves = {
                name: reader.moved(self.children.get(name, cast(OwnControl, name)), generator) for name in possible
            }
            yield from reader.rows(moves, self.problems[i].id)


def _followed(work: Work, scores: pl.DataFrame) -> Iterator[Followed]:
    """The texts that patches wrote after a prompt, each with those that wrote it and their defined cells."""
    from crosspatch.analysis.controls import Followed
    from crosspatch.analysis.given_text import GivenText
    from crosspatch.patching.patches import Patch

    written: dict[tuple[int, ...], dict[Patch, list[int]]] = {}
    for rows in scores.partition_by("patch", maintain_order=True):
        steps = rows.filter(pl.col("status") == "ok")["step"].to_list()
        if steps:
            text = tuple(rows.sort("step")["token_id"])
            written.setdefault(text, {})[Patch.parse(rows["patch"][0])] = steps
    if written:
        prompt = work.pair.encode(work.directory.asked()[scores["prompt_id"][0]].question)
        for text, steps_of in written.items():
            yield Followed(GivenText(prompt, text), steps_of)
