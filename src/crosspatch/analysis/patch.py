"""The functions `patch`, which runs patches on prompts and measures controls, and `score`, along a given text."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, get_args

import polars as pl
from torch import nn

from crosspatch.analysis.controls import Controls
from crosspatch.analysis.selection import check_choice, select_patches
from crosspatch.config import Component, Directions, Engine, OwnControl, Persistence
from crosspatch.errors import UsageError
from crosspatch.models.blocks import text_config
from crosspatch.models.chat import unpad
from crosspatch.models.compatibility import Layers
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device
from crosspatch.models.site import Site
from crosspatch.patching.batches import rows_at_once
from crosspatch.patching.patches import Patch
from crosspatch.patching.quick_check import usable_engine
from crosspatch.patching.result import PatchResult, token_texts
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.sweep import Sweep, choose_patches, patch_runs
from crosspatch.patching.trajectory import PatchRun
from crosspatch.tables import CONTROLS

logger = logging.getLogger(__name__)
T = TypeVar("T")


def patch(
    pair: ModelPair,
    prompts: str | Iterable[str] | Mapping[str, Any],
    *,
    layers: Layers = "all",
    component: Component | Sequence[Component] | None = None,
    heads: Layers = "all",
    window: int = 1,
    schedule: str = "all",
    patches: Iterable[Patch | str] | None = None,
    attribution: int = 0,
    target_fraction: float | None = None,
    beam: int = 1,
    direction: Directions = "corrupt",
    persistence: Persistence = "transient",
    controls: Iterable[OwnControl] = (),
    children: Mapping[str, nn.Module] | None = None,
    seed: int = 0,
    max_new_tokens: int = 256,
    small_denominator: float | None = None,
    engine: Engine = "cached",
    memory_gb: float | None = None,
    float32_unembedding: bool = False,
    quick_check: bool = True,
) -> PatchResult:
    """Generate from each prompt under each patch separately, and score every step.

        result = patch(pair, "Solve for x: 5x + 3 = 18", layers=[8, 18, 28])
        result.profile()  # a row for each patch, with its recovered fraction

    `prompts` is a question, several questions, or a mapping from prompt_id to question; the default ids are prompt-000,
    prompt-001 and so on. A tokenizer's padded batch (input_ids, attention_mask) is accepted too.

    The patches are a grid of `layers`, `component` (one or several; None: resid_post), `heads` and `window` (number of
    layers patched together). Layers and heads are "all", a number or several numbers; negative numbers count from the
    end. Alternatively, `patches` lists patches by name, such as `L17.attn_out+L18.head.3`; `attribution` ranks all
    sites of the components (None: all) by gradients and patches this many top sites; `target_fraction` searches for a
    small set of sites that recovers this fraction (1: everything), with beam width `beam`. `schedule` selects the steps
    at which a grid is patched.

    With `direction` both, both directions run, and texts in the repair direction have the condition `repaired`.
    `controls` (self, random, other_prompt) and `children` (other fine-tuned models, by name) are patched in instead of
    the source's activations, in the cells where the models disagree; `seed` seeds the random directions.

    `small_denominator` is in logits; None: by the models' precision. `memory_gb` limits the key-value cache of the rows
    that run at once; None: half of the free memory. Progress and warnings are logged. Raises UsageError for a site that
    the models do not have, or an empty prompt, before any model runs.
    """
    encoded = _encoded(pair, prompts, max_new_tokens)
    measured = _checked_controls(controls, children, persistence)
    runs = patch_runs(pair, direction, persistence, max_new_tokens, small_denominator, float32_unembedding)
    pair.eval()
    if attribution < 0:
        raise UsageError(f"got attribution {attribution}, expected the number of sites to patch, 0 or more")
    longest = max(map(len, encoded.values())) + max_new_tokens
    selection = None
    if attribution or target_fraction is not None:
        grid = ((layers, "all"), (heads, "all"), (window, 1), (schedule, "all"))
        if patches is not None or not all(isinstance(got, type(plain)) and got == plain for got, plain in grid):
            raise UsageError(
                "attribution and target_fraction choose among all sites; remove patches and the arguments of a grid "
                "(layers, heads, window, schedule)"
            )
        if len(runs) > 1 or persistence == "persistent":
            raise UsageError("attribution and target_fraction choose transient patches of one direction")
        check_choice(attribution, target_fraction)
        middle = [Patch((Site(pair.n_layers // 2),))]
        (run,) = _with_engine(pair, runs, middle, engine, longest, quick_check=quick_check)
        components = (component,) if isinstance(component, str) else component
        selection = select_patches(
            pair,
            encoded,
            run,
            {},
            components,
            attribution=attribution,
            target_fraction=target_fraction,
            beam=beam,
        )
        chosen = selection.patches
    else:
        component = component or "resid_post"
        chosen = choose_patches(pair, layers, component, heads=heads, window=window, schedule=schedule, patches=patches)
    runs = _with_engine(pair, runs, chosen, engine, longest, quick_check=quick_check)
    rows = rows_at_once(text_config(pair.clean), pair.clean.dtype, input_device(pair.clean), longest, memory_gb)
    scores, texts = Sweep(pair, chosen, runs, rows).over(encoded)
    cells = CONTROLS.frame()
    if measured and runs[0].engine == "reference":
        logger.warning(
            "controls are not measured: they need a cached engine, but this pair runs in the reference engine"
        )
    elif measured:
        of = Controls(pair, encoded, scores, runs, children=children, seed=seed)
        cells = pl.concat(of.after(prompt_id, measured) for prompt_id in encoded)
    table = None if selection is None else selection.table
    return PatchResult(scores, texts, token_texts(scores, pair.prompts), cells, table)


def score(
    pair: ModelPair,
    prompt_id: str,
    question: str,
    text: str | Sequence[int],
    patches: Iterable[Patch | str],
    *,
    direction: Directions = "corrupt",
    small_denominator: float | None = None,
    float32_unembedding: bool = False,
    engine: Engine = "cached",
    quick_check: bool = True,
) -> pl.DataFrame:
    """Score transient patches at each token of a given text (teacher forcing), as a table `crosspatch.tables.SCORES`.

    `text` is a solution, tokenised with its question like a training example, or token ids. Patches have names such as
    `L17.attn_out+L18.head.3`. `small_denominator` is in logits; None: by the models' precision. Raises UsageError for
    a site that the models do not have, and if the pair runs in the reference engine.

        score(pair, "p0", "Solve for x: x + 3 = 5", "x = 8", ["L18.resid_post"])
    """
    runs = patch_runs(pair, direction, small_denominator=small_denominator, float32_unembedding=float32_unembedding)
    pair.eval()
    chosen = choose_patches(pair, patches=[patches] if isinstance(patches, str | Patch) else patches)
    if isinstance(text, str):
        prompt, tokens = pair.prompts.example(question, text)
        pair.check_length(len(prompt), len(tokens))
    else:
        tokens = [int(token) for token in text]
        prompt = pair.encode(question, len(tokens))
    runs = _with_engine(pair, runs, chosen, engine, len(prompt) + len(tokens), quick_check=quick_check)
    return pl.concat(
        trajectory.frame(prompt_id, run, pair.prompts)
        for run in runs
        for trajectory in score_tokens(pair, prompt, tokens, chosen, run)
    )


def _with_engine(
    pair: ModelPair,
    runs: Sequence[PatchRun],
    patches: Sequence[Patch],
    wanted: Engine,
    positions: int,
    *,
    quick_check: bool,
) -> list[PatchRun]:
    """Return the runs with the wanted engine, or with one that passes the quick check."""
    engine = usable_engine(pair, patches, wanted, positions) if quick_check else wanted
    return [replace(run, engine=engine) for run in runs]


def _checked_controls(
    controls: Iterable[OwnControl], children: Mapping[str, nn.Module] | None, persistence: Persistence
) -> list[str]:
    """Return the names of all controls; raises UsageError for an unknown control, or persistent patches."""
    own, known = list(controls), get_args(OwnControl)
    if foreign := [name for name in own if name not in known]:
        raise UsageError(f"got the control {foreign[0]!r}, expected {', '.join(known)}; pass models in children")
    if taken := set(children or {}) & set(known):
        raise UsageError(f"got a child named {min(taken)}, which is a control's name; give it another name")
    names = [*own, *(children or {})]
    if names and persistence == "persistent":
        raise UsageError("got controls with persistent patches; controls can only be scored for transient patches")
    return names


def _encoded(
    pair: ModelPair, prompts: str | Iterable[str] | Mapping[str, Any], max_new_tokens: int
) -> dict[str, list[int]]:
    """Encode prompts as token ids by prompt_id. Raises UsageError if there is none, or one is empty or too long."""
    if isinstance(prompts, Mapping) and "input_ids" in prompts:
        encoded = _named(unpad(prompts["input_ids"], prompts["attention_mask"]))
        for ids in encoded.values():
            pair.check_length(len(ids), max_new_tokens)
        return encoded
    questions = (
        dict(prompts) if isinstance(prompts, Mapping) else _named([prompts] if isinstance(prompts, str) else prompts)
    )
    if not questions:
        raise UsageError("got no prompt, expected at least one")
    return {name: pair.encode(question, max_new_tokens) for name, question in questions.items()}


def _named(prompts: Iterable[T]) -> dict[str, T]:
    """Give prompts the ids prompt-000, prompt-001 and so on."""
    return {f"prompt-{i:03d}": prompt for i, prompt in enumerate(prompts)}
