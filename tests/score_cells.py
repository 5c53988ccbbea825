"""Cells of the scores table for tests, by their ΔLs."""

from __future__ import annotations

from typing import Any


def cell(
    prompt_id: str, layer: int | None, step: int, deltas: tuple[float, float, float], **more: Any
) -> dict[str, Any]:
    """A cell with its CTS, `agree` where the corrupted model wants the token of the clean one."""
    clean, corrupted, patched = deltas
    values = {
        "prompt_id": prompt_id,
        "patch": f"L{layer}.resid_post",
        "component": "resid_post",
        "layer": layer,
        "head": None,
        "direction": "corrupt",
        "persistence": "transient",
        "step": step,
        "position": step,
        "token_id": 1,
        "token": " a",
        "clean_token_id": 1,
        "corrupted_token_id": 1 if clean == corrupted else 2,
        "delta_clean": clean,
        "delta_corrupted": corrupted,
        "delta_patched": patched,
        "cts": None if clean == corrupted else (patched - clean) / (corrupted - clean),
        "status": "agree" if clean == corrupted else "ok",
        "kl_clean": 0.1,
        "kl_patched": 0.1,
        "rank_corrupted": 1,
    }
    return {**values, **more}
