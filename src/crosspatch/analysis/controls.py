"""Controls: other activations at the same sites and steps as a patch, along the text that the patch generated.

A recovered fraction needs a comparison: a patch at the last layer recovers everything, and if two logits are close, any
change may swap them. So in the cells where the models disagree, other activations are patched in: the target's own
(identity), the target's plus a random vector with the norm of the difference, the target's plus another prompt's
difference, or another child's. The contexts, tokens and denominators are those of the patch, so scores can be compared
cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import cast

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from crosspatch.analysis.steering import random_like
from crosspatch.analysis.teacher_forcing import Activations, Cell, ForcedText, PairReader, difference, text_reader
from crosspatch.config import Direction, OwnControl
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.patching.patches import Patch
from crosspatch.patching.scores import Contexts, ScoreLog, Steps, score_cells
from crosspatch.patching.trajectory import PatchRun, Trajectory
from crosspatch.tables import CONTROLS, SCORES

# Maximum number of patched positions in one pass, which bounds memory.
CELLS_AT_ONCE = 2048
# The texts of this many (prompt, direction) pairs are cached.
_TEXTS_KEPT = 8


@dataclass(frozen=True)
class PatchedText:
    """A text, generated under patches or given, and the steps of each patch at which controls are scored."""

    given: ForcedText
    steps: Mapping[Patch, Sequence[int]]

    @property
    def all_steps(self) -> list[int]:
        """The steps of all patches."""
        return sorted({step for steps in self.steps.values() for step in steps})

    @property
    def sites(self) -> list[Site]:
        """The sites of all patches."""
        return sorted({site for patch in self.steps for site in patch.sites})


class ControlReader:
    """The models of a pair with the keys and values of one text, to score controls along it.

    `other` has read another prompt's text, for the control `other_prompt`.
    """

    @torch.inference_mode()
    def __init__(self, pair: ModelPair, patched: PatchedText, run: PatchRun, other: PairReader | None = None) -> None:
        self._pair, self._patched, self._run, self._other = pair, patched, run, other
        # Tokens after the last scored step are not read.
        given = patched.given
        self._both = PairReader(pair, ForcedText(given.prompt, given.text[: max(patched.all_steps) + 1]), run)
        self._here, self.source_activations = self._both.activations(patched.all_steps, patched.sites)
        self._difference = difference(self._here, self.source_activations)

    @torch.inference_mode()
    def moved(self, control: OwnControl | nn.Module, generator: torch.Generator | None = None) -> Activations:
        """Return the activations that a control patches in at every site and step.

        If the control is a model, its activations are used. `other_prompt` adds the models' difference on the other
        text (at the same step, or at its last step if it is shorter) to the target's activations. `random` adds vectors
        with the norm of the difference in random directions, drawn with the CPU generator `generator` for each site and
        step. Raises ValueError if the generator or the other text is missing.
        """
        steps, sites = self._patched.all_steps, self._patched.sites
        if isinstance(control, nn.Module):
            return text_reader(control, self._both.given, self._run).activations(steps, sites)
        if control == "self":
            return self._here
        if control == "random":
            if generator is None:
                raise ValueError("got no generator for random directions, expected a torch.Generator on the CPU")
            return {site: self._here[site] + random_like(self._difference[site], generator) for site in sites}
        if self._other is None:
            raise ValueError("got no text of another prompt for the control other_prompt, expected one")
        last = len(self._other.given.text) - 1
        elsewhere = difference(*self._other.activations([min(step, last) for step in steps], sites))
        return {site: self._here[site] + elsewhere[site] for site in sites}

    @torch.inference_mode()
    def score(self, moves: Mapping[str, Activations]) -> dict[tuple[str, Patch], Steps]:
        """Score each patch at its steps with the activations of each control; return the scores by (control, patch)."""
        place = {step: row for row, step in enumerate(self._patched.all_steps)}
        scored = list(product(moves, self._patched.steps))
        cells = [
            (row, Cell(step, patch, {site: moves[name][site][place[step]] for site in patch.sites}))
            for row, (name, patch) in enumerate(scored)
            for step in self._patched.steps[patch]
        ]
        # Sort by step, since the cells of one step share both models' predictions.
        cells.sort(key=lambda cell: cell[1].step)
        log = ScoreLog()
        for start in range(0, len(cells), CELLS_AT_ONCE):
            some = cells[start : start + CELLS_AT_ONCE]
            hidden = self._both.target.patched([cell for _, cell in some])
            steps, firsts = np.unique([cell.step for _, cell in some], return_index=True)
            scores = score_cells(
                np.append(firsts, len(some)),
                partial(self._contexts, steps),
                partial(self._logits, hidden),
                np.ones(len(some), bool),
            )
            log.add((row for row, _ in some), scores)
        return dict(zip(scored, log.split(len(scored)), strict=True))

    def table(self, moves: Mapping[str, Activations], prompt_id: str) -> pl.DataFrame:
        """Return the scored cells as a table `CONTROLS`."""
        length, prompts = len(self._patched.given.prompt), self._pair.prompts
        tables = [CONTROLS.frame()]
        for (name, patch), steps in self.score(moves).items():
            at = sorted(self._patched.steps[patch])
            cells = Trajectory(patch, length, steps).frame(prompt_id, self._run, prompts, at)
            tables.append(cells.select(pl.lit(name).alias("control"), pl.all()))
        return pl.concat(tables)

    def _contexts(self, steps: NDArray[np.int64], some: slice) -> Contexts:
        read = steps[some].tolist()
        target, source = (reader.unembed(reader.hidden[read]) for reader in (self._both.target, self._both.source))
        return Contexts.of(target, source.to(target.device), self._run.direction)

    def _logits(self, hidden: Float[Tensor, "C D"], some: slice) -> Float[Tensor, "N V"]:
        return self._both.target.unembed(hidden[some])


class Controls:
    """Scores of controls along the texts that patches generated, prompt by prompt.

    `prompts` are token ids by prompt_id, `scores` the scores of the sweep, and `children` the models (by name) whose
    activations are controls. `other_prompt` uses the text of the next prompt in the same group; without `groups` all
    prompts are one group. `seed` seeds the random directions.
    """

    def __init__(
        self,
        pair: ModelPair,
        prompts: Mapping[str, Sequence[int]],
        scores: pl.DataFrame,
        runs: Sequence[PatchRun],
        *,
        children: Mapping[str, nn.Module] | None = None,
        groups: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        self._pair, self._runs, self._seed = pair, runs, seed
        self._prompts, self._names = prompts, list(prompts)
        self._children, self._groups = children or {}, groups or {}
        self._scores = scores.partition_by("prompt_id", as_dict=True)
        self._texts: dict[tuple[str, Direction], list[PatchedText]] = {}

    def after(self, prompt_id: str, controls: Sequence[str]) -> pl.DataFrame:
        """Return the cells of some controls for one prompt; `other_prompt` is skipped if there is no other prompt."""
        tables = [table for run in self._runs for table in self._tables(prompt_id, controls, run)]
        return pl.concat([CONTROLS.frame(), *tables])

    def _tables(self, prompt_id: str, controls: Sequence[str], run: PatchRun) -> Iterator[pl.DataFrame]:
        written = self._patched_texts(prompt_id, run.direction)
        given = self._other(prompt_id, run.direction) if "other_prompt" in controls and written else None
        with torch.inference_mode():
            other = None if given is None else PairReader(self._pair, given, run)
        possible = [name for name in controls if other is not None or name != "other_prompt"]
        for patched in written:
            reader = ControlReader(self._pair, patched, run, other)
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._names.index(prompt_id))
            moves = {
                name: reader.moved(self._children.get(name, cast(OwnControl, name)), generator) for name in possible
            }
            yield reader.table(moves, prompt_id)

    def _other(self, prompt_id: str, direction: Direction) -> ForcedText | None:
        """Return a patched text of the next prompt in the same group, or None if there is none."""
        i = self._names.index(prompt_id)
        for name in (*self._names[i + 1 :], *self._names[:i]):
            grouped = self._groups.get(name) == self._groups.get(prompt_id)
            if grouped and (written := self._patched_texts(name, direction)):
                return written[0].given
        return None

    def _patched_texts(self, prompt_id: str, direction: Direction) -> list[PatchedText]:
        """Return the texts that patches generated from a prompt, each with its patches and their steps with a CTS."""
        key = (prompt_id, direction)
        if key not in self._texts:
            # Only the latest texts are needed again, for `other_prompt`.
            while len(self._texts) >= _TEXTS_KEPT:
                del self._texts[next(iter(self._texts))]
            scores = self._scores.get((prompt_id,), SCORES.frame()).filter(direction=direction)
            steps_of: dict[tuple[int, ...], dict[Patch, list[int]]] = {}
            for rows in scores.partition_by("patch", maintain_order=True):
                if steps := rows.filter(pl.col("status") == "ok")["step"].to_list():
                    text = tuple(rows.sort("step")["token_id"])
                    steps_of.setdefault(text, {})[Patch.parse(rows["patch"][0])] = steps
            prompt = self._prompts[prompt_id]
            self._texts[key] = [PatchedText(ForcedText(prompt, text), steps) for text, steps in steps_of.items()]
        return self._texts[key]
