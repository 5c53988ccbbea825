"""Run directories made without any model: a record, problems, and scores that are known."""

from pathlib import Path

from crosspatch.data.problem import Problem, write_problems
from crosspatch.settings_io import make_experiment
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCORES
from score_cells import cell


def made_run(root: Path, *, seed: int = 0, n_layers: int = 5, prompts: int = 9, full: float = 1.0) -> RunDirectory:
    """A run in which the recovered fraction grows evenly with depth, up to `full` at the last layer."""
    run = RunDirectory.start(root, make_experiment({"name": f"made of {n_layers} layers", "seed": seed}, (), {}))
    run.problems_file("related").parent.mkdir()
    names = [f"related-{i}" for i in range(prompts)]
    problems = [Problem(name, "related", "f", f"Question {name}?", "1") for name in names]
    write_problems(run.problems_file("related"), problems)
    run.note_model("clean", {"layers": n_layers, "fingerprint": f"{n_layers}"})
    for i, name in enumerate(names):
        # The models agree at the first of three steps.
        deltas = [((0.0, 0.0, 0.0), *[(-1.0, 1.0, 2 * full * k / (n_layers - 1) - 1)] * 2) for k in range(n_layers)]
        rows = [cell(name, layer, step, of) for layer, steps in enumerate(deltas) for step, of in enumerate(steps)]
        run.write(SCORES, SCORES.frame(rows), i)
    return run
