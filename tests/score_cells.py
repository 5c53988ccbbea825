"""Rows for tests: cells of the scores table by their ΔLs, graded answers, and a text's columns about its patch."""

from itertools import zip_longest
from typing import Any

from crosspatch.errors import UsageError
from crosspatch.patching.patches import Patch

AGREE = (0.0, 0.0, 0.0)
RECOVERED = "recovered_fraction"
PROMPTS = [f"p{i:02d}" for i in range(10)]
DOMAINS = dict.fromkeys(PROMPTS, "related") | {"g": "general"}
_PLACE = ("patch", "component", "layer", "head", "schedule", "window", "strength")


def cell(
    prompt_id: str, layer: int | None, step: int, deltas: tuple[float, float, float], **more: Any
) -> dict[str, Any]:
    """A cell with its CTS, `agree` where the corrupted model wants the token of the clean one."""
    clean, corrupted, patched = deltas
    agree = clean == corrupted
    place = {"prompt_id": prompt_id, "patch": f"L{layer}.resid_post", "component": "resid_post", "layer": layer}
    mode = {"head": None, **steps_of(more), "direction": "corrupt", "persistence": "transient"}
    tokens = {"token_id": 1, "token": " a", "clean_token_id": 1, "corrupted_token_id": 1 if agree else 2}
    given = {"delta_clean": clean, "delta_corrupted": corrupted, "delta_patched": patched}
    score = {"cts": None if agree else (patched - clean) / (corrupted - clean), "status": "agree" if agree else "ok"}
    more = {"step": step, "position": step, "kl_clean": 0.1, "kl_patched": 0.1, "rank_corrupted": 1, **more}
    return {**place, **mode, **tokens, **given, **score, **more}


def steps_of(more: dict[str, Any]) -> dict[str, Any]:
    """The schedule that a patch's name ends with, and a window of one layer, for cells that are made by hand."""
    return {"schedule": str(more.get("patch", "")).partition("@")[2] or "all", "window": 1}


def of_text(patch: str | None) -> dict[str, Any]:
    """A text's columns from `patch` to `strength`; all but the name are null where it is none of a patch."""
    name, _, strength = (patch or "").partition("*")
    try:
        columns = Patch.parse(name).columns
    except UsageError:
        columns = {}
    return {**dict.fromkeys(_PLACE), **columns, "patch": patch, "strength": float(strength) if strength else None}


def answer(
    prompt_id: str,
    condition: str,
    verdict: str = "correct",
    patch: str | None = None,
    operation: str | None = None,
    domain: str = "related",
) -> dict[str, Any]:
    """A graded answer: a row of the table behaviour."""
    return {
        "prompt_id": prompt_id,
        "condition": condition,
        **of_text(patch),
        "domain": domain,
        "extracted": None,
        "verdict": verdict,
        "rule": "words",
        "operation": operation,
        "health": [],
    }


_WORDS = {"c": "correct", "i": "incorrect", "u": "unparsed", "r": "right", "p": "planted", "n": "neither"}


def answers(
    condition: str, verdicts: str, patch: str | None = None, operations: str = "", domain: str = "related"
) -> list[dict[str, Any]]:
    """A row for each letter: c(orrect), i(ncorrect), u(nparsed); r(ight), p(lanted), n(either) or nothing."""
    return [
        answer(f"{domain}-{i:03d}", condition, _WORDS[said], patch, _WORDS.get(done), domain)
        for i, (said, done) in enumerate(zip_longest(verdicts, operations))
    ]
