"""The controls stage: something else moved to the same places, in the cells where the models disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from crosspatch.config import OWN_CONTROLS, Direction, OwnControl
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
        i: some
        for i in range(len(problems))
        if (some := [name for name in names if not work.directory.control_part(name, i).is_file()])
    }
    if not missing:
        return
    if work.experiment.patch.persistence == "persistent":
        return work.say("controls: only transient patches can be scored along a given text; none is measured")
    scores = [SCORES.read(work.directory.scores_part(i)) for i in range(len(problems))]
    patches = [Patch.parse(name) for name in scores[0]["patch"].unique(maintain_order=True)]
    longest = max(int(part["position"].max() or 0) for part in scores) + 2  # type: ignore[arg-type]
    if possible_engine(work, patches, longest) == "reference":
        return work.say("controls: these models run by the reference engine alone, which has none; none is measured")
    texts = {
        direction: [list(_followed(work, part.filter(direction=direction))) for part in scores]
        for direction in work.experiment.patch.directions
    }
    children = {name: work.model(name) for name in names if name not in OWN_CONTROLS}
    for i, wanted in missing.items():
        rows = CONTROLS.frame(
            row
            for direction, written in texts.items()
            for row in _scored(work, wanted, children, direction, written, i)
        )
        for name in wanted:
            part = work.directory.control_part(name, i)
            part.parent.mkdir(parents=True, exist_ok=True)
            CONTROLS.write(rows.filter(control=name), part)
        work.say(f"controls: {problems[i].id} is done, {', '.join(wanted)} in {rows.height:,} cells")


def _followed(work: Work, scores: pl.DataFrame) -> Iterator[Followed]:
    """The texts that patches wrote after a prompt, each with those that wrote it and their defined cells."""
    from crosspatch.patching.controls import Followed
    from crosspatch.patching.given_text import GivenText
    from crosspatch.patching.patches import Patch

    written: dict[tuple[int, ...], dict[Patch, list[int]]] = {}
    for rows in scores.partition_by("patch", maintain_order=True):
        steps = rows.filter(pl.col("status") == "ok")["step"].to_list()
        if steps:
            text = tuple(rows.sort("step")["token_id"])
            written.setdefault(text, {})[Patch.parse(rows["patch"][0])] = steps
    if written:
        prompt = work.pair.encode(work.directory.asked()[scores["prompt_id"][0]].question)
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
    names: Sequence[str],
    children: Mapping[str, nn.Module],
    direction: Direction,
    written: list[list[Followed]],
    i: int,
) -> Iterator[dict[str, Any]]:
    """The cells of controls along the texts of a prompt; one that needs another prompt is left out where none is."""
    import torch

    from crosspatch.patching.controls import ControlReader, OtherPrompt

    problems, run = work.patched_problems, patch_run(work, direction)
    given = _other(written, problems, i) if "other_prompt" in names and written[i] else None
    other = None if given is None else OtherPrompt(work.pair, given, run)
    possible = [name for name in names if other is not None or name != "other_prompt"]
    for followed in written[i]:
        reader = ControlReader(work.pair, followed, run, other)
        generator = torch.Generator().manual_seed(work.experiment.seed * 1_000_003 + i)
        moves = {name: reader.moved(children.get(name, cast(OwnControl, name)), generator) for name in possible}
        yield from reader.rows(moves, problems[i].id)
