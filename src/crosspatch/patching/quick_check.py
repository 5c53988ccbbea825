"""Compare the cached engines with plain Hugging Face passes and the published algorithm.

`quick_check` runs before an engine is used; if it fails, another engine is used, with a warning.
`compare_engines` is the longer comparison, for the command `verify`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any, get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from crosspatch.config import COMPONENTS, Component, Direction, Engine, Persistence
from crosspatch.errors import CrosspatchError
from crosspatch.models.blocks import text_config
from crosspatch.models.compatibility import Layers, numbered
from crosspatch.models.components import find_components
from crosspatch.models.hooks import editing
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device, quantization_of
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from crosspatch.patching.any_cache import Past
from crosspatch.patching.patches import Patch
from crosspatch.patching.reference import scores_of_patches
from crosspatch.patching.scoring import score_tokens
from crosspatch.patching.sweep import Sweep, choose_patches
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing
from crosspatch.patching.two_stream.passes import packed_pass

logger = logging.getLogger(__name__)

# Allowed differences, relative to the largest logit: adding in another order changes logits by up to this much.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
# Two to three times the difference between a cached and an uncached pass of quantised SmolLM2.
_QUANTISED = {"8bit": 0.2, "4bit": 3e-2, None: 0.0}
_PATCHES = 3
# An unusual model can raise any of these errors.
_UNUSUAL = (RuntimeError, TypeError, AttributeError, KeyError, IndexError, ValueError)
PROBE = "Solve for x: 3x - 15 = 5x. Move 15 to the other side."


def usable_engine(pair: ModelPair, patches: Sequence[Patch], wanted: Engine, positions: int) -> Engine:
    """Return the `wanted` engine, or the next one in `Engine` that passes its check; a warning gives the reason.

    The reference needs no check. `positions` is the largest length of a text with its prompt, in tokens.
    """
    engines: tuple[Engine, ...] = get_args(Engine)
    shifts = _shifting_positions(pair, positions)
    for engine, following in pairwise(engines[engines.index(wanted) :]):
        reason = shifts or quick_check(pair, patches, engine)
        if reason is None:
            return engine
        instead = "slow reference" if shifts or following == "reference" else following
        logger.warning("the %s engine cannot be used on this pair: %s; using the %s engine", engine, reason, instead)
        if shifts:
            break
    return "reference"


@torch.no_grad()
def quick_check(pair: ModelPair, patches: Sequence[Patch], engine: Engine = "cached") -> str | None:
    """Return the reason why an engine fails on these patches of this pair, or None if it works.

    In both models, its unpatched passes must give the logits of an ordinary forward pass, each site's hook must run
    once, and the model must be unchanged afterwards. A few steps of a few patches are compared with the published
    algorithm.
    """
    differing = _forked if engine == "any_cache" else _packed
    ids = pair.prompts.tokenizer(PROBE, add_special_tokens=False).input_ids
    chosen = _spread(patches)
    sites = {site for patch in chosen for site in patch.sites}
    try:
        for model, name in ((pair.clean, "clean"), (pair.corrupted, "corrupted")):
            before = _plain(model, ids)
            if wrong := differing(model, ids, before) or _hooks(model, ids, sites):
                return f"{wrong} in the {name} model"
            if not torch.equal(_plain(model, ids), before):
                return f"a pass changes the {name} model"
        return _against_reference(pair, ids, chosen, engine)
    except CrosspatchError as error:
        return str(error)
    except _UNUSUAL as error:
        # Reject the model, so that no result is silently wrong.
        return f"a pass raises {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _shifting_positions(pair: ModelPair, positions: int) -> str | None:
    """Reject rotary angles that depend on the length of the text, which a check on a short text cannot detect."""
    config = text_config(pair.clean)
    rope = getattr(config, "rope_parameters", None) or {}
    # `rope` has one set of angles for all layers, or one set for each type of layer.
    for angles in (rope, *(kind for kind in rope.values() if isinstance(kind, dict))):
        if angles.get("rope_type") in {"dynamic", "longrope"}:
            trained = angles.get("original_max_position_embeddings") or config.max_position_embeddings
            if positions > trained:
                return f"its rotary angles change in texts beyond {trained} tokens, and these may have {positions}"
    return None


def _packed(model: nn.Module, ids: list[int], plain: Tensor) -> str | None:
    """Compare unpatched packed passes, uncached (one chunk) and cached (two), with an ordinary pass's logits."""
    device = input_device(model)
    for pieces, where in (((0, len(ids)),), "a packed pass"), (((0, 5), (5, len(ids))), "a cached pass"):
        past = KeyValues(device, len(ids), lanes=1)
        lane = past.open()
        hidden = [
            packed_pass(model, Packing.of_text(ids[first:last], lane, device, first), past) for first, last in pieces
        ]
        gap = _gap(unembed(model, torch.cat(hidden)), plain)
        if not gap <= _tolerance(model):  # Also refuses NaN.
            return f"{where} gives logits that differ by {gap:.1e} of the largest"
    return None


def _forked(model: nn.Module, ids: list[int], plain: Tensor) -> str | None:
    """Compare passes with forks of the model's own cache with an ordinary pass's logits.

    Before each token the cache is forked, and the other row reads another token.
    """
    past, tokens = Past(model), torch.tensor([ids])
    hidden = [past.read(tokens[:, :5])[0]]
    for position in range(5, len(ids)):
        past.select(np.zeros(2, dtype=np.int64))
        hidden.append(past.read(torch.tensor([[ids[-position]], [ids[position]]]))[1])
        past.select(np.ones(1, dtype=np.int64))
    gap = _gap(unembed(model, torch.cat(hidden)), plain)
    return None if gap <= _tolerance(model) else f"a cached pass gives logits that differ by {gap:.1e} of the largest"


def _hooks(model: nn.Module, ids: list[int], sites: set[Site]) -> str | None:
    """Check that each site's hook runs exactly once in a pass."""
    runs: dict[Site, int] = dict.fromkeys(sites, 0)

    def counting(site: Site) -> Callable[[Tensor], Tensor]:
        def edit(stream: Tensor) -> Tensor:
            runs[site] += 1
            return stream

        return edit

    with editing(model, {site: counting(site) for site in sites}):
        _plain(model, ids)
    wrong = [f"the hook at {site.name} runs {count} times" for site, count in runs.items() if count != 1]
    return f"{wrong[0]} in a pass, expected once," if wrong else None


def _against_reference(pair: ModelPair, ids: list[int], patches: Sequence[Patch], engine: Engine) -> str | None:
    """Compare the last two steps of a fixed text with the published algorithm."""
    run, text = PatchRun(engine=engine), ids[-1:] * 2
    scale = float(_plain(pair.clean, ids).abs().max())
    patches = [Patch(patch.sites) for patch in patches]
    fast = score_tokens(pair, ids[:-1], text, patches, run)
    for j in range(len(text)):
        published = scores_of_patches(pair, ids[: len(ids) - 1 + j], patches, run)
        for trajectory, slow in zip(fast, published, strict=True):
            step = trajectory.steps[j]
            gap = max(abs(a - b) for a, b in zip(step.deltas, slow.deltas, strict=True))
            same = (step.y_target, step.y_source) == (slow.y_target, slow.y_source)
            if same and gap / scale > _tolerance(pair.clean):
                return f"{trajectory.patch.name} differs from the published algorithm by {gap:.1e} logits"
    return None


def _spread(patches: Sequence[Patch]) -> list[Patch]:
    """Return the first, the middle and the last patch of each component."""
    chosen: dict[Patch, None] = {}
    for component in sorted({patch.component for patch in patches}):
        these = [patch for patch in patches if patch.component == component]
        for i in range(_PATCHES):
            chosen[these[i * (len(these) - 1) // (_PATCHES - 1)]] = None
    return list(chosen)


def _plain(model: Any, ids: list[int]) -> Tensor:
    """Return the logits [T, V] of an unpatched model."""
    return model(input_ids=torch.tensor([ids], device=input_device(model)), use_cache=False).logits[0].float()


def _gap(a: Tensor, b: Tensor) -> float:
    b = b.to(a.device)
    return float((a - b).abs().max() / b.abs().max())


def _tolerance(model: Any) -> float:
    return max(_TOLERANCE[model.dtype], _QUANTISED[quantization_of(model)])


def compare_engines(
    pair: ModelPair,
    question: str,
    layers: Layers = "all",
    components: Sequence[Component] | None = None,
    heads: Layers = "all",
    max_new_tokens: int = 8,
) -> pl.DataFrame:
    """Patch one question with all engines, and return the largest differences of the cached ones from the reference.

    The table has a row for each engine, each of `components` (None: all that both models have), direction and
    persistence, with columns `engine`, `component`, `direction`, `persistence`, `steps`, `same_tokens`, and
    `largest_delta` (logits) and `largest_kl` (nats) over the steps with the same tokens. An engine that cannot run on
    this pair is left out, with a warning. Raises UsageError for a site that a model does not have, and CrosspatchError
    if no cached engine can run.
    """
    encoded = {"verify": pair.encode(question, max_new_tokens)}
    layers, heads = numbered("layer", layers, pair.n_layers), numbered("head", heads, pair.n_heads)
    chosen = _available_components(pair) if components is None else components
    patches = {component: choose_patches(pair, layers, component, heads=heads) for component in chosen}
    ways = list(product(patches, get_args(Direction), get_args(Persistence)))

    def scores(engine: Engine) -> list[pl.DataFrame]:
        return [
            Sweep(
                pair,
                patches[component],
                [PatchRun(direction, persistence, max_new_tokens, pair.small_denominator, engine=engine)],
                rows=len(patches[component]),
            ).over(encoded, unpatched=False)[0]
            for component, direction, persistence in ways
        ]

    *cached, reference = get_args(Engine)
    slow, rows = scores(reference), []
    for engine in cached:
        try:
            fast = scores(engine)
        except (CrosspatchError, *_UNUSUAL) as error:
            logger.warning("the %s engine cannot run on this pair: %s", engine, " ".join(str(error).split())[:200])
            continue
        for (component, direction, persistence), one, other in zip(ways, fast, slow, strict=True):
            place = {"engine": engine, "component": component, "direction": direction, "persistence": persistence}
            rows.append(place | _differences(one, other))
    if not rows:
        raise CrosspatchError("no cached engine can run on this pair; use --engine reference")
    return pl.DataFrame(rows)


def _available_components(pair: ModelPair) -> list[Component]:
    """Return the components that every block of both models has."""

    def has(component: Component) -> bool:
        sites = [Site(layer, component, 0 if component == "head" else None) for layer in range(pair.n_layers)]
        return all(find_components(model).has(site) for model in (pair.clean, pair.corrupted) for site in sites)

    return [component for component in COMPONENTS if component == "resid_post" or has(component)]


def _differences(fast: pl.DataFrame, slow: pl.DataFrame) -> dict[str, Any]:
    tokens = ["patch", "step", "token_id", "clean_token_id", "corrupted_token_id"]
    # Once the engines' tokens differ, so do the contexts, and scores cannot be compared.
    both = fast.join(slow, on=tokens, suffix="_slow")

    def largest(*columns: str) -> float:
        gaps = both.select(pl.max_horizontal((pl.col(name) - pl.col(f"{name}_slow")).abs() for name in columns).max())
        return float(gaps.item() or 0.0)

    return {
        "steps": fast.height,
        "same_tokens": fast.select(tokens).equals(slow.select(tokens)),
        "largest_delta": largest("delta_clean", "delta_corrupted", "delta_patched"),
        "largest_kl": largest("kl_clean", "kl_patched"),
    }
