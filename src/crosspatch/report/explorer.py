"""What the explorer of a page shows: every prompt's cells and texts, in columns that travel well.

The page holds one index of prompts, modes and tokens, and a part of its own for each prompt, which it unpacks when
the prompt is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import polars as pl

from crosspatch.characters import legible, visible
from crosspatch.data.problem import Problem
from crosspatch.report.answers import Answer, prompt_answers
from crosspatch.report.columns import PROFILE, ModeCells, Tokens
from crosspatch.report.formulas import FORMULA, formulas
from crosspatch.report.pictures.heatmap import CTS_RANGE, STATUSES, check_cells
from crosspatch.report.prompts import Selection, prompts_in
from crosspatch.statistics.domain import domain_title
from crosspatch.statistics.patch_mode import PatchMode, every_mode, patched_direction
from crosspatch.statistics.token_class import CLASSES, with_class
from crosspatch.tables import REPAIRED

# So many cells travel with a page, about 12 MB of it for each million; of further prompts it is said where they are.
MOST_CELLS = 400_000


@dataclass(frozen=True)
class Explorer:
    """`index` is what the page needs at once, `prompts` a part for each prompt of it, in its order; both are JSON.

    `selection` tells which prompts these are, and which have no room.
    """

    index: dict[str, Any]
    prompts: tuple[dict[str, Any], ...]
    selection: Selection

    @classmethod
    def of(
        cls,
        problems: Mapping[str, Problem],
        scores: pl.DataFrame | None,
        generations: pl.DataFrame | None,
        behaviour: pl.DataFrame | None,
        texts: Mapping[int, str] | None = None,
        modes: Sequence[PatchMode] | None = None,
    ) -> Explorer:
        """The prompts that were patched, or, where none was, those that were answered, as far as there is room.

        `texts` of tokens by id; None: of those that were written. `modes` that are shown; None: all. Raises
        ValueError for a prompt that `problems` lacks, a cell that stands there twice, or a CTS where the status says
        that there is none.
        """
        # Prompts that were only answered, not patched, are in Table 2; their texts would bury the patched ones.
        shown = scores if scores is not None else generations
        selection = _selection(shown, problems)
        ids = selection.shown
        # Whole layers come first: they are what a page opens with.
        found = every_mode(scores) if modes is None and scores is not None else list(modes or ())
        found.sort(key=lambda way: way.component != "resid_post")
        conditions = {} if scores is None else _conditions(scores)
        tokens, cells = Tokens(()), []
        if scores is not None:
            written = dict(scores.select("token_id", "token").unique("token_id").iter_rows())
            scores = scores.filter(pl.col("prompt_id").is_in(ids))
            check_cells(scores)
            tokens = Tokens.of(scores, {**(texts or {}), **written})
            classed = with_class(scores, written if texts is None else texts)
            cells = [ModeCells.of(classed, mode, tokens) for mode in found]
        texts_by_prompt, grades = _by_prompt(generations, ids), _by_prompt(behaviour, ids)
        parts = []
        for prompt_id in ids:
            own = texts_by_prompt.get((prompt_id,))
            answers = [] if own is None else prompt_answers(own, grades.get((prompt_id,)))
            pictures = [
                {"variant": place} | of_mode.picture(prompt_id, answers, conditions[of_mode.mode.direction])
                for place, of_mode in enumerate(cells)
                if prompt_id in of_mode.cells
            ]
            in_cells = {row["text"] for picture in pictures for row in picture["rows"]}
            texts_of = [_text(answer, place in in_cells) for place, answer in enumerate(answers)]
            parts.append({"texts": texts_of, "pictures": pictures})
        index = {
            "prompts": [
                {"id": name, **_prompt(problems[prompt_id])} for name, prompt_id in zip(_names(ids), ids, strict=True)
            ],
            "variants": [_mode(mode) for mode in found],
            "classes": CLASSES,
            "statuses": STATUSES,
            "range": CTS_RANGE,
            "profile": PROFILE,
            "vocabulary": tokens.listed,
            "formula": FORMULA,
            "formulas": formulas(_texts(parts, tokens)),
        }
        return cls(index, tuple(parts), selection)

    @property
    def parts(self) -> dict[str, Any]:
        """Its parts of a page's data by name; none where there is no prompt to show."""
        parts: dict[str, Any] = {f"prompt-{place}": part for place, part in enumerate(self.prompts)}
        return parts | {"explorer": self.index} if parts else {}


def _selection(shown: pl.DataFrame | None, problems: Mapping[str, Problem]) -> Selection:
    """The prompts for which there is room: a cell takes 1, and where nothing was patched a token of a text does."""
    if shown is None:
        return Selection(())
    tokens = pl.col("token_count").sum() if "token_count" in shown.columns else pl.len()
    sizes = dict(shown.group_by("prompt_id").agg(tokens.cast(pl.Int64)).iter_rows())
    return Selection.of(prompts_in(shown, problems), problems, MOST_CELLS, sizes)


def _by_prompt(frame: pl.DataFrame | None, ids: Sequence[str]) -> Mapping[Any, pl.DataFrame]:
    if frame is None:
        return {}
    return frame.filter(pl.col("prompt_id").is_in(ids)).partition_by("prompt_id", as_dict=True, maintain_order=True)


def _conditions(scores: pl.DataFrame) -> dict[str, str]:
    """Under which condition the texts of each direction are kept."""
    first = patched_direction(scores)
    return {direction: "patched" if direction == first else REPAIRED for direction in scores["direction"].unique()}


def _text(answer: Answer, in_cells: bool) -> dict[str, Any]:
    """A text and what is known of it; one whose tokens stand in the cells travels without its letters."""
    return {
        "condition": legible(answer.condition),
        "patch": None if answer.patch is None else legible(answer.patch),
        "shared": "" if in_cells else answer.shared,
        "own": "" if in_cells else answer.own,
        "tokens": answer.token_count,
        "cut": answer.stop_reason == "limit",
        "verdict": answer.verdict,
        "operation": answer.operation,
        "health": answer.health,
        "likeness": answer.likeness,
    }


def _texts(parts: list[dict[str, Any]], tokens: Tokens) -> Iterator[str]:
    """Everything that is shown as running text, to look for formulas in."""
    for part in parts:
        for text in part["texts"]:
            yield text["shared"] + text["own"]
        for picture in part["pictures"]:
            for row in picture["rows"]:
                written = picture["token_id"][row["start"] : row["start"] + row["cells"]]
                letters = row["letters"]
                yield "".join(
                    letters.get(str(step), tokens.listed[place][1] or "") for step, place in enumerate(written)
                )


def _names(ids: Sequence[str]) -> list[str]:
    """The prompts' names as they are shown and stand in addresses; those that look alike are numbered."""
    names: dict[str, None] = {}
    for prompt_id in ids:
        name = visible(prompt_id, 80).replace("␣", " ")
        alike = (f"{name} ({number})" for number in count(2))
        names[name if name not in names else next(other for other in alike if other not in names)] = None
    return list(names)


def _prompt(problem: Problem) -> dict[str, str]:
    return {
        "domain": legible(domain_title(problem.domain)),
        "question": legible(problem.question),
        "answer": legible(problem.answer),
    }


def _mode(mode: PatchMode) -> dict[str, str]:
    return {name: legible(value) for name, value in mode.columns.items()} | {"moved": mode.moved}
