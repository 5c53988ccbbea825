"""The controls stage: something else moved to the same places, in the cells where the models disagree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from crosspatch.config import OWN_CONTROLS
from crosspatch.data.problem import Problem
from crosspatch.experiment.patching import patch_run, possible_engine
from crosspatch.experiment.work import Work
from crosspatch.frames import CONTROLS, SCORES

if TYPE_CHECKING:
    from torch import nn

    from crosspatch.patching.controls import Followed
    from crosspatch.patching.given_text import GivenText


def measure_controls(work: Work) -> None:
    """Score every control that has no scores yet, prompt by prompt."""
    from crosspatch.patching.patches import Patch

    problems, names = work.patched_problems, work.experiment.moved_controls
    missing = {
        name: [i for i in range(len(problems)) if not work.directory.control_part(name, i).is_file()] for name in names
    }
    if not any(missing.values()):
        return
    if work.experiment.patch.persistence == "persistent":
        return work.say("controls: only transient patches can be scored along a given text; none is measured")
    scores = [SCORES.read(work.directory.scores_part(i)) for i in range(len(problems))]
    patches = [Patch.parse(name) for name in scores[0]["patch"].unique(maintain_order=True)]
    longest = max(int(part["position"].max() or 0) for part in scores) + 2  # type: ignore[arg-type]
    if possible_engine(work, patches, longest) == "reference":
        return work.say("controls: these models run by the reference engine alone, which has none; none is measured")
    texts = [list(_followed(work, part)) for part in scores]
    for name in names:
        if missing[name]:
            child = None if name in OWN_CONTROLS else work.model(name)
            for i in missing[name]:
                other = _other(texts, problems, i)
                part = work.directory.control_part(name, i)
                part.parent.mkdir(parents=True, exist_ok=True)
                CONTROLS.write(_scored(work, problems[i].id, name, child, texts[i], other, seed=i), part)
            del child
            work.say(f"controls: {name} is done, {len(problems)} prompts")


def _followed(work: Work, scores: pl.DataFrame) -> Iterator[Followed]:
    """The texts that patches wrote after a prompt, each with those that wrote it and their defined cells."""
    from crosspatch.patching.controls import Followed
    from crosspatch.patching.given_text import GivenText
    from crosspatch.patching.patches import Patch

    question = work.directory.asked()[scores["prompt_id"][0]].question
    written: dict[tuple[int, ...], dict[Patch, list[int]]] = {}
    for rows in scores.partition_by("patch", maintain_order=True):
        steps = rows.filter(pl.col("status") == "ok")["step"].to_list()
        if steps:
            text = tuple(rows.sort("step")["token_id"])
            written.setdefault(text, {})[Patch.parse(rows["patch"][0])] = steps
    prompt = work.pair.encode(question)
    for text, steps_of in written.items():
        yield Followed(GivenText(prompt, text), steps_of)


def _other(texts: list[list[Followed]], problems: list[Problem], i: int) -> GivenText | None:
    """A text after the next prompt of the same domain; None where there is none."""
    count = len(problems)
    for j in ((i + k) % count for k in range(1, count)):
        if problems[j].domain == problems[i].domain and texts[j]:
            return texts[j][0].given
    return None


def _scored(
    work: Work,
    prompt_id: str,
    control: str,
    child: nn.Module | None,
    texts: list[Followed],
    other: GivenText | None,
    seed: int,
) -> pl.DataFrame:
    """The scores of one control after one prompt; none where it needs another prompt and there is none."""
    import torch

    from crosspatch.patching.controls import score_control

    if control == "other_prompt" and other is None:
        return CONTROLS.frame()
    run = patch_run(work)
    generator = torch.Generator().manual_seed(work.experiment.seed * 1_000_003 + seed)
    rows = []
    for followed in texts:
        moved = child if child is not None else control
        for trajectory in score_control(work.pair, followed, run, moved, other=other, generator=generator):
            steps = set(followed.steps[trajectory.patch])
            rows += [row for row in trajectory.rows(prompt_id, run, work.pair.prompts) if row["step"] in steps]
    return CONTROLS.frame({"control": control, **row} for row in rows)
