"""The data of a page's explorer: every prompt's cells and texts, packed in columns.

The page holds one index of prompts, modes and tokens, and a part for each prompt, which it unpacks when the prompt is
chosen. A page may hold hundreds of thousands of cells, so all prompts of a mode are prepared at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import polars as pl

from crosspatch.characters import legible, natural_order, visible
from crosspatch.data.problem import Problem
from crosspatch.patching.measures import LAYER_COMPONENTS
from crosspatch.report.answers import Answer, prompt_answers
from crosspatch.report.formulas import FORMULA, formulas
from crosspatch.report.letters import whole_letters
from crosspatch.report.pictures.heatmap import CTS_RANGE, STATUSES, cell_notes, check_cells
from crosspatch.report.prompts import Selection, most_telling, prompts_in
from crosspatch.report.tables import PROFILE
from crosspatch.statistics.domain import domain_title
from crosspatch.statistics.patch_mode import PatchMode, every_mode, patched_direction
from crosspatch.statistics.profile import prompt_profile
from crosspatch.statistics.token_class import CLASSES, with_class
from crosspatch.tables import REPAIRED

# The most cells of a page, which are about 5 MB of it; the page names the prompts that are left out.
MOST_CELLS = 400_000

# Significant digits of a number; the page shows no more.
_DIGITS = 4
_TOKENS = ("token_id", "clean_token_id", "corrupted_token_id")
_NUMBERS = ("cts", "delta_clean", "delta_corrupted", "delta_patched", "kl_clean", "kl_patched")
_COLUMNS = ("step", "position", *_TOKENS, "class", "status", *_NUMBERS, "rank_corrupted")

# The tokens of a page, the most frequent first: (id, legible text or None where it is not known).
Vocabulary = list[tuple[int, str | None]]


@dataclass(frozen=True)
class Explorer:
    """`index` is what the page needs at once, `prompts` a part for each shown prompt, in order; both are JSON.

    The page opens with the prompt at the place `first` of the index. `selection` names the shown and the omitted
    prompts.
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
        """As many patched prompts as fit on a page, or as many answered prompts if none was patched.

        `texts` of tokens by id; None: only generated tokens have a text. `modes` are the shown modes; None: all. Raises
        ValueError for a prompt that `problems` lacks, and for scores that `check_cells` refuses.
        """
        # Prompts that were answered but not patched are in Table 2; their texts would bury the patched ones.
        selection = _selection(scores if scores is not None else generations, problems)
        ids = selection.shown
        # Whole layers come first: a page opens with them.
        shown = every_mode(scores) if modes is None and scores is not None else list(modes or ())
        shown.sort(key=lambda mode: mode.component != "resid_post")
        texts_by_prompt, grades = _by_prompt(generations, ids), _by_prompt(behaviour, ids)
        answers = {
            name: prompt_answers(texts_by_prompt[name,], grades.get((name,))) if (name,) in texts_by_prompt else []
            for name in ids
        }
        pictures: dict[str, list[dict[str, Any]]] = {name: [] for name in ids}
        vocabulary: Vocabulary = []
        if scores is not None:
            generated = dict(scores.select("token_id", "token").unique("token_id").iter_rows())
            patched = patched_direction(scores)
            scores = scores.filter(pl.col("prompt_id").is_in(ids))
            check_cells(scores)
            vocabulary = _vocabulary(scores, {**(texts or {}), **generated})
            places = {token: place for place, (token, _) in enumerate(vocabulary)}
            classed = with_class(scores, generated if texts is None else texts)
            for place, mode in enumerate(shown):
                condition = "patched" if mode.direction == patched else REPAIRED
                for name, picture in _pictures(classed, mode, places, answers, condition):
                    pictures[name].append({"variant": place} | picture)
        parts = []
        for name in ids:
            in_cells = {row["text"] for picture in pictures[name] for row in picture["rows"]}
            own = [_text(answer, place in in_cells) for place, answer in enumerate(answers[name])]
            parts.append({"texts": own, "pictures": pictures[name]})
        index = {
            "first": most_telling(scores, problems, ids),
            "prompts": [{"id": shown_as, **_prompt(problems[name])} for shown_as, name in _names(ids)],
            "variants": [_mode(mode) for mode in shown],
            "classes": CLASSES,
            "statuses": STATUSES,
            "range": CTS_RANGE,
            "profile": [title for title, _ in PROFILE.values()],
            "vocabulary": vocabulary,
            "formula": FORMULA,
            "formulas": formulas(_running_texts(parts, vocabulary)),
        }
        return cls(index, tuple(parts), selection)

    @property
    def parts(self) -> dict[str, Any]:
        """The parts of a page's data by name; none where there is no prompt to show."""
        parts: dict[str, Any] = {f"prompt-{place}": part for place, part in enumerate(self.prompts)}
        return parts | {"explorer": self.index} if parts else {}


def _selection(shown: pl.DataFrame | None, problems: Mapping[str, Problem]) -> Selection:
    """The prompts that fit on a page: each cell counts as 1, or each token of a text if no prompt was patched."""
    if shown is None:
        return Selection(())
    tokens = pl.col("token_count").sum() if "token_count" in shown.columns else pl.len()
    sizes = dict(shown.group_by("prompt_id").agg(tokens.cast(pl.Int64)).iter_rows())
    return Selection.of(prompts_in(shown, problems), problems, MOST_CELLS, sizes)


def _by_prompt(frame: pl.DataFrame | None, ids: Sequence[str]) -> Mapping[Any, pl.DataFrame]:
    if frame is None:
        return {}
    return frame.filter(pl.col("prompt_id").is_in(ids)).partition_by("prompt_id", as_dict=True, maintain_order=True)


def _vocabulary(scores: pl.DataFrame, known: Mapping[int, str]) -> Vocabulary:
    """The tokens that a model generated or predicted; `known` are texts by id."""
    ids = pl.concat([scores[column].rename("id") for column in _TOKENS]).value_counts(sort=True)["id"]
    return [(token, legible(known[token]) if token in known else None) for token in ids]


def _pictures(
    scores: pl.DataFrame,
    mode: PatchMode,
    places: Mapping[int, int],
    answers: Mapping[str, Sequence[Answer]],
    condition: str,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each prompt under one mode as JSON: a row for each patch, lowest first, and the cells of all rows in columns.

    `scores` have a column `class`; `condition` is the condition of the mode's texts. Numbers are rounded; tokens,
    classes and statuses are places in their lists.
    """
    own = mode.every_row(scores)
    order = {patch: at for at, patch in enumerate(sorted(own["patch"].unique(), key=natural_order))}
    lowest_first = pl.col("patch").replace_strict(order, return_dtype=pl.Int32)
    profiles = prompt_profile(own).sort(lowest_first).partition_by("prompt_id", as_dict=True)
    shown = {token: legible(token) for token in own["token"].unique()}
    columns = own.sort(lowest_first, "step").select(
        "prompt_id",
        "step",
        "position",
        "rank_corrupted",
        pl.col("token").replace_strict(shown, return_dtype=pl.String),
        pl.col(*_TOKENS).replace_strict(places, return_dtype=pl.Int32),
        _place_in(CLASSES, "class"),
        _place_in(STATUSES, "status"),
        pl.col(*_NUMBERS).cast(pl.Float64).round_sig_figs(_DIGITS),
    )
    for (name,), cells in columns.partition_by("prompt_id", as_dict=True).items():
        texts = {(answer.condition, answer.patch): place for place, answer in enumerate(answers[str(name)])}
        rows, start = [], 0
        for profile in profiles[name,].iter_rows(named=True):
            end, place = start + profile["positions"], texts.get((condition, profile["patch"]))
            whole = (
                {}
                if place is None
                else whole_letters(cells["token"][start:end].to_list(), answers[str(name)][place].text)
            )
            rows.append(
                {
                    "name": legible(_row_name(profile)),
                    "patch": legible(profile["patch"]),
                    "layer": profile["layer"],
                    "start": start,
                    "cells": end - start,
                    "text": place,
                    # By step of the row, of tokens that are no whole letters by themselves.
                    "letters": {str(step): letters for step, letters in whole.items()},
                    "profile": [profile[column] for column in PROFILE],
                }
            )
            start = end
        counts = [int((cells["status"] == place).sum()) for place in range(len(STATUSES))]
        beside = {"rows": rows, "ceiling": mode.ceiling, "notes": cell_notes(counts, cells["cts"])}
        yield str(name), {**beside, **{column: _values(cells[column]) for column in _COLUMNS}}


def _place_in(names: Sequence[str], column: str) -> pl.Expr:
    return pl.col(column).replace_strict({name: place for place, name in enumerate(names)}, return_dtype=pl.Int8)


def _row_name(profile: Mapping[str, Any]) -> str:
    """The layer, with the head where one was patched; the patch's name for a set of sites."""
    layer, head = profile["layer"], profile["head"]
    if layer is None or (head is None and profile["component"] not in LAYER_COMPONENTS):
        return str(profile["patch"])
    return str(layer) if head is None else f"{layer}.{head}"


def _values(column: pl.Series) -> list[Any]:
    """Values as JSON has them: an infinity or a NaN by its name."""
    values = column.to_list()
    if column.dtype.is_float() and not column.drop_nulls().is_finite().all():
        return [value if value is None or math.isfinite(value) else str(value) for value in values]
    return values


def _text(answer: Answer, in_cells: bool) -> dict[str, Any]:
    """A text and its grades; without its letters where the cells have its tokens."""
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


def _running_texts(parts: list[dict[str, Any]], vocabulary: Vocabulary) -> Iterator[str]:
    """All texts as the page shows them, to find formulas in."""
    for part in parts:
        for text in part["texts"]:
            yield text["shared"] + text["own"]
        for picture in part["pictures"]:
            for row in picture["rows"]:
                tokens = enumerate(picture["token_id"][row["start"] : row["start"] + row["cells"]])
                yield "".join(row["letters"].get(str(step), vocabulary[place][1] or "") for step, place in tokens)


def _names(ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each prompt's name in lists and addresses, and its id; names that look alike are numbered."""
    names: set[str] = set()
    for prompt_id in ids:
        name = visible(prompt_id, 80).replace("␣", " ")
        alike = (f"{name} ({number})" for number in count(2))
        names.add(unlike := name if name not in names else next(other for other in alike if other not in names))
        yield unlike, prompt_id


def _prompt(problem: Problem) -> dict[str, str]:
    return {
        "domain": legible(domain_title(problem.domain)),
        "question": legible(problem.question),
        "answer": legible(problem.answer),
    }


def _mode(mode: PatchMode) -> dict[str, str]:
    return {name: legible(value) for name, value in mode.columns.items()} | {"moved": mode.moved}
