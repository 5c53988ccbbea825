"""Whether the cached engine gives on a pair what plain Hugging Face models give: a quick look before it is trusted.

`verify` compares more. A pair that fails is run by the reference engine, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crosspatch.config import Engine
from crosspatch.errors import CrosspatchError
from crosspatch.models.blocks import text_config
from crosspatch.models.hooks import editing
from crosspatch.models.pair import ModelPair
from crosspatch.models.placement import input_device, quantization_of
from crosspatch.models.site import Site
from crosspatch.models.unembedding import unembed
from crosspatch.patching.patches import Patch
from crosspatch.patching.reference import step_scores
from crosspatch.patching.rounds import Rounds, Row, Stretch
from crosspatch.patching.trajectory import PatchRun
from crosspatch.patching.two_stream.key_values import KeyValues
from crosspatch.patching.two_stream.packing import Packing, Token
from crosspatch.patching.two_stream.passes import packed_pass

logger = logging.getLogger(__name__)

# Differences allowed, as a share of the largest logit: what sums in another order may differ by.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}
# Two to three times what a cached and an uncached pass of quantised SmolLM2 differ by.
_QUANTISED = {"8bit": 0.2, "4bit": 3e-2, None: 0.0}
_STEPS = 2
_PATCHES = 3
PROBE = "Solve for x: 3x - 15 = 5x. Move 15 to the other side."


def usable_engine(pair: ModelPair, patches: Sequence[Patch], wanted: Engine, positions: int) -> Engine:
    """The engine that was asked for, or the reference, with a warning that tells why, where the cached one fails.

    `positions` is how long texts may grow, prompt included.
    """
    if wanted == "reference":
        return wanted
    reason = _shifting_positions(pair, positions) or quick_check(pair, patches)
    if reason is None:
        return wanted
    logger.warning("the cached engine cannot be used on this pair: %s; using the slow reference engine", reason)
    return "reference"


@torch.no_grad()
def quick_check(pair: ModelPair, patches: Sequence[Patch]) -> str | None:
    """Why the cached engine cannot be trusted with these patches on this pair, or None.

    Both models: a packed pass gives the plain logits, in one piece and in two; each hook that a patch needs fires
    once; afterwards the model is as before. Then a few steps of a few patches against the published algorithm.
    """
    ids = pair.prompts.tokenizer(PROBE, add_special_tokens=False).input_ids
    chosen = _spread(patches)
    sites = {site for patch in chosen for site in patch.sites}
    try:
        for model, name in ((pair.clean, "clean"), (pair.corrupted, "corrupted")):
            before = _plain(model, ids)
            if wrong := _idle(model, ids, before) or _hooks(model, ids, sites):
                return f"{wrong} in the {name} model"
            if not torch.equal(_plain(model, ids), before):
                return f"the {name} model is not the same after a packed pass as before"
        return _against_reference(pair, ids, chosen)
    except CrosspatchError as error:
        return str(error)
    except (RuntimeError, TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        # An unusual model can break anywhere inside; it is refused, so that no result is silently different.
        return f"a packed pass breaks with {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _shifting_positions(pair: ModelPair, positions: int) -> str | None:
    """A short check cannot see that rotary angles change with the length of the text."""
    config = text_config(pair.clean)
    rope = getattr(config, "rope_parameters", None) or {}
    # One set of angles for all layers, or one for each kind of layer.
    for angles in (rope, *(kind for kind in rope.values() if isinstance(kind, dict))):
        if angles.get("rope_type") in {"dynamic", "longrope"}:
            trained = angles.get("original_max_position_embeddings") or config.max_position_embeddings
            if positions > trained:
                return f"its rotary angles change in texts beyond {trained} tokens, and these may have {positions}"
    return None


def _idle(model: nn.Module, ids: list[int], plain: Tensor) -> str | None:
    """The machinery without a patch, uncached (one piece) and cached (two)."""
    device = input_device(model)
    for pieces, where in (((0, len(ids)),), "a packed pass"), (((0, 5), (5, len(ids))), "a cached pass"):
        past = KeyValues(device, len(ids), lanes=1)
        lane = past.open()
        hidden = [
            packed_pass(model, Packing([Token(ids[p], p, lane) for p in range(first, last)], device), past)
            for first, last in pieces
        ]
        gap = _gap(unembed(model, torch.cat(hidden)), plain)
        if not gap <= _tolerance(model):  # no number is no match
            return f"{where} gives logits that differ by {gap:.1e} of the largest"
    return None


def _hooks(model: nn.Module, ids: list[int], sites: set[Site]) -> str | None:
    """Every site is met exactly once in a pass."""
    met: dict[Site, int] = dict.fromkeys(sites, 0)

    def counting(site: Site) -> Callable[[Tensor], Tensor]:
        def edit(stream: Tensor) -> Tensor:
            met[site] += 1
            return stream

        return edit

    with editing(model, {site: counting(site) for site in sites}):
        _plain(model, ids)
    wrong = [site for site, count in met.items() if count != 1]
    return f"{wrong[0].name} is met {met[wrong[0]]} times in a pass, expected once," if wrong else None


def _against_reference(pair: ModelPair, ids: list[int], patches: Sequence[Patch]) -> str | None:
    """Steps of a fixed text by both engines."""
    run = PatchRun()
    rounds = Rounds(pair, run, len(ids), lanes=1)
    lanes = rounds.target_past.open(), rounds.source_past.open()
    start = len(ids) - _STEPS
    rounds.prefill([(ids[:start], *lanes)])
    rows = [Row(Patch(patch.sites)) for patch in patches]
    fast = rounds.read([Stretch(ids[start:], start, 0, *lanes, rows)])[0].rows
    scale = float(_plain(pair.clean, ids).abs().max())
    for row, steps in zip(rows, fast, strict=True):
        for j, step in enumerate(steps):
            slow = step_scores(pair, ids[: start + j + 1], row.patch, run, j, [])
            gap = max(abs(a - b) for a, b in zip(step.deltas, slow.deltas, strict=True))
            same = (step.y_target, step.y_source) == (slow.y_target, slow.y_source)
            if same and gap / scale > _tolerance(pair.clean):
                return f"{row.patch.name} differs from the published algorithm by {gap:.1e} logits"
    return None


def _spread(patches: Sequence[Patch]) -> list[Patch]:
    """A few of the patches: of each component the first, a middle and the last one."""
    chosen: dict[Patch, None] = {}
    for component in sorted({patch.component for patch in patches}):
        these = [patch for patch in patches if patch.component == component]
        for i in range(_PATCHES):
            chosen[these[i * (len(these) - 1) // (_PATCHES - 1)]] = None
    return list(chosen)


def _plain(model: Any, ids: list[int]) -> Tensor:
    """The logits [T, V] of a model by itself."""
    return model(input_ids=torch.tensor([ids], device=input_device(model)), use_cache=False).logits[0].float()


def _gap(a: Tensor, b: Tensor) -> float:
    b = b.to(a.device)
    return float((a - b).abs().max() / b.abs().max())


def _tolerance(model: Any) -> float:
    return max(_TOLERANCE[model.dtype], _QUANTISED[quantization_of(model)])
