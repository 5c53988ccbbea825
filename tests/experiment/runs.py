"""Run directories made without any model: a record, problems, and scores that are known."""

from __future__ import annotations

from pathlib import Path

from crosspatch.data.problem import Problem, write_problems
from crosspatch.settings_io import make_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCORES


def cell(prompt: int, layer: int, step: int, cts: float | None) -> dict[str, object]:
    """A score of two models that differ by 2 logits, or agree where there is no CTS."""
    differ = cts is not None
    return {
        **dict.fromkeys(SCORES.columns),
        "prompt_id": f"related-{prompt}",
        "patch": f"L{layer}.resid_post",
        "component": "resid_post",
        "layer": layer,
        "schedule": "all",
        "window": 1,
        "direction": "corrupt",
        "persistence": "transient",
        "step": step,
        "position": 9 + step,
        "token_id": step,
        "token": f" t{step}",
        "clean_token_id": step,
        "corrupted_token_id": 99 if differ else step,
        "delta_clean": -1.0 if differ else 0.0,
        "delta_corrupted": 1.0 if differ else 0.0,
        "delta_patched": 2 * cts - 1 if cts is not None else 0.0,
        "cts": cts,
        "status": "ok" if differ else "agree",
        "kl_clean": 0.5,
        "kl_patched": 0.25,
        "rank_corrupted": 1,
    }


def made_run(root: Path, *, seed: int = 0, n_layers: int = 5, prompts: int = 9, full: float = 1.0) -> RunDirectory:
    """A run in which transfer grows evenly with depth, up to `full` at the last layer."""
    run = RunDirectory.start(root, make_experiment({"name": f"made of {n_layers} layers", "seed": seed}, (), {}))
    run.problems_file("related").parent.mkdir()
    write_problems(
        run.problems_file("related"),
        [Problem(f"related-{i}", "related", "f", f"Question {i}?", "1") for i in range(prompts)],
    )
    run.note_model("clean", {"layers": n_layers, "fingerprint": f"{n_layers}"})
    for i in range(prompts):
        rows = [
            cell(i, layer, step, full * layer / (n_layers - 1) if step else None)
            for layer in range(n_layers)
            for step in range(3)
        ]
        run.write(SCORES, SCORES.frame(rows), i)
    return run
