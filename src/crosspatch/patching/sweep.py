"""Sweeps: generate after every prompt under every patch, in one direction or both, and score every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import polars as pl

from crosspatch.config import Component, Direction, Directions, Persistence
from crosspatch.errors import UsageError
from crosspatch.models.blocks import head_count, text_config
from crosspatch.models.compatibility import Layers, numbered
from crosspatch.models.components import check_sites, find_components
from crosspatch.models.generation import continue_prompts
from crosspatch.models.pair import ModelPair, by_direction
from crosspatch.patching.batches import run_in_batches
from crosspatch.patching.patches import Patch, Schedule, patch_grid
from crosspatch.patching.reference import run_reference
from crosspatch.patching.trajectory import OwnText, PatchRun, Prompt, Written
from crosspatch.tables import GENERATIONS, REPAIRED, SCORES

Unpatched = Literal["clean", "corrupted"]
UNPATCHED: tuple[Unpatched, ...] = get_args(Unpatched)
# Texts of the unpatched models that already exist, by prompt_id.
Answers = Mapping[str, Mapping[Unpatched, str]]


@dataclass(frozen=True)
class Sweep:
    """The patches of a pair, a run for each direction, and the maximum number of rows in a batch.

    A row is one patch after one prompt.
    """

    pair: ModelPair
    patches: Sequence[Patch]
    runs: Sequence[PatchRun]
    rows: int

    def over(
        self, prompts: Mapping[str, Sequence[int]], answers: Answers | None = None, *, unpatched: bool = True
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the scores and texts of prompts (token ids by prompt_id), by prompt, direction and patch.

        The texts are the patched models' and, with `unpatched`, the unpatched models' that are not in `answers`.
        """
        known = {name: dict((answers or {}).get(name, {})) for name in prompts}
        scores: dict[str, list[pl.DataFrame]] = {name: [] for name in prompts}
        texts: dict[str, list[pl.DataFrame]] = {name: [] for name in prompts}
        for run in self.runs:
            for name, written in zip(prompts, self._written(prompts, known, run, unpatched), strict=True):
                wanted = set(UNPATCHED) - known[name].keys() if unpatched else set()
                own = {condition: text for condition, text in _own_texts(written, run).items() if condition in wanted}
                known[name] |= {condition: text.text(self.pair.prompts) for condition, text in own.items()}
                scores[name].append(self._scores(name, written, run))
                texts[name].append(self._texts(name, written, own, run))
        return pl.concat(chain.from_iterable(scores.values())), pl.concat(chain.from_iterable(texts.values()))

    def _written(
        self, prompts: Mapping[str, Sequence[int]], known: Answers, run: PatchRun, unpatched: bool
    ) -> Iterator[Written]:
        """Generate after each prompt in one direction; later changes to `known` have no effect."""
        if run.engine == "reference":
            return (_by_reference(self.pair, list(ids), self.patches, run) for ids in prompts.values())
        jobs = [
            Prompt(
                list(ids),
                self.patches,
                known=[self.pair.prompts.encode_completion(text) for text in known[name].values()],
                answers=unpatched and len(known[name]) < len(UNPATCHED),
            )
            for name, ids in prompts.items()
        ]
        return run_in_batches(self.pair, jobs, run, self.rows)

    def _scores(self, prompt_id: str, written: Written, run: PatchRun) -> pl.DataFrame:
        prompts = self.pair.prompts
        return pl.concat([SCORES.frame(), *(t.frame(prompt_id, run, prompts) for t in written.trajectories)])

    def _texts(self, prompt_id: str, written: Written, own: Mapping[Unpatched, OwnText], run: PatchRun) -> pl.DataFrame:
        prompts = self.pair.prompts
        rows = [
            text_row(prompt_id, condition, None, text.text(prompts), len(text.tokens), text.stop_reason)
            for condition, text in own.items()
        ]
        rows += [
            text_row(prompt_id, run.condition, t.patch.columns, t.text(prompts), len(t.tokens), t.stop_reason)
            for t in written.trajectories
        ]
        return GENERATIONS.frame(rows)


def _own_texts(written: Written, run: PatchRun) -> dict[Unpatched, OwnText]:
    """Return the unpatched models' texts by condition, clean before corrupted."""
    return dict(zip(UNPATCHED, by_direction(run.direction, written.target, written.source), strict=True))


def _by_reference(pair: ModelPair, prompt: list[int], patches: Sequence[Patch], run: PatchRun) -> Written:
    """Compute what the cached engine computes, with the published algorithm and ordinary generation."""
    target, source = (
        OwnText(given.tokens, given.stop_reason)
        for model in pair.target_and_source(run.direction)
        for given in continue_prompts(model, pair.prompts, [prompt], run.max_new_tokens, pair.stop_tokens)
    )
    return Written(run_reference(pair, prompt, list(patches), run), target, source)


def patch_runs(
    pair: ModelPair,
    direction: Directions,
    persistence: Persistence = "transient",
    max_new_tokens: int = 1024,
    small_denominator: float | None = None,
    float32_unembedding: bool = False,
) -> list[PatchRun]:
    """Return the settings of a run for each direction; `small_denominator` (logits) defaults to the pair's.

    If both directions are patched, the condition of the repair direction's texts is `repaired`, to distinguish them
    from the others under the same patch. Raises UsageError for an unknown direction or persistence.
    """
    for got, known in ((direction, Directions), (persistence, Persistence)):
        if got not in get_args(known):
            raise UsageError(f"got {got!r}, expected one of {', '.join(get_args(known))}")
    threshold = pair.small_denominator if small_denominator is None else small_denominator
    directions: tuple[Direction, ...] = get_args(Direction) if direction == "both" else (direction,)
    conditions = ("patched", REPAIRED)
    return [
        PatchRun(one, persistence, max_new_tokens, threshold, float32_unembedding, condition)
        for one, condition in zip(directions, conditions, strict=False)
    ]


def choose_patches(
    models: ModelPair | Any,
    layers: Layers = "all",
    component: Component | Sequence[Component] = "resid_post",
    *,
    heads: Layers = "all",
    window: int = 1,
    schedule: str = "all",
    patches: Iterable[Patch | str] | None = None,
) -> list[Patch]:
    """Return the patches of a grid, or the named `patches`; `models` is a pair or a model's (text) configuration.

    For a pair, `check_patches` also checks that both models have every site; for a configuration only the numbers of a
    grid are checked. Raises UsageError for a site that is missing.
    """
    config = text_config(models.clean) if isinstance(models, ModelPair) else models
    if patches is not None:
        if schedule != "all":
            raise UsageError(
                f"got the schedule {schedule!r} with named patches; append it to each name: L18.attn_out@{schedule}"
            )
        chosen = [Patch.parse(named) if isinstance(named, str) else named for named in patches]
    else:
        n_layers, n_heads = int(config.num_hidden_layers), head_count(config)
        chosen = patch_grid(
            numbered("layer", layers, n_layers),
            n_layers,
            (component,) if isinstance(component, str) else tuple(component),
            heads=numbered("head", heads, n_heads),
            n_heads=n_heads,
            window=window,
            schedule=Schedule.parse(schedule),
        )
    if not chosen:
        raise UsageError("got no patch; choose at least one layer, component and head")
    if isinstance(models, ModelPair):
        check_patches(models, chosen)
    return chosen


def check_patches(pair: ModelPair, patches: Iterable[Patch]) -> None:
    """Raise UsageError if a model of the pair does not have a patch's site, or the site cannot be patched."""
    sites = {site for patch in patches for site in patch.sites}
    for model in (pair.clean, pair.corrupted):
        find_components(model)  # Raises UsageError for blocks with several streams.
        check_sites(model, sites)


def text_row(
    prompt_id: str, condition: str, patched: Mapping[str, Any] | None, text: str, token_count: int, stop_reason: str
) -> dict[str, Any]:
    """Return a row of the table of texts; `patched` has the columns of the patch or the steering."""
    return {
        **dict.fromkeys(GENERATIONS.columns),
        "prompt_id": prompt_id,
        "condition": condition,
        **(patched or {}),
        "text": text,
        "token_count": token_count,
        "stop_reason": stop_reason,
    }
