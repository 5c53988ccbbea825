"""What the explorer of a page shows: every prompt's cells and texts, in columns that travel well.

The page holds one index of prompts, variants and tokens, and a part of its own for each prompt, which it unpacks when
the prompt is chosen. Knows nothing of HTML, of colours, or of how a cell is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import polars as pl

from crosspatch.characters import legible, visible
from crosspatch.frames import REPAIRED
from crosspatch.report.answers import Answer, Answers
from crosspatch.report.formulas import FORMULA, formulas
from crosspatch.report.letters import whole_letters
from crosspatch.report.pictures.heatmap import CTS_RANGE, STATUSES, check_cells
from crosspatch.report.problems import ProblemLike, prompts_in
from crosspatch.report.selection import Selection
from crosspatch.results.domain import domain_title
from crosspatch.results.profile import prompt_profile
from crosspatch.results.table2 import patch_order
from crosspatch.results.token_class import CLASSES, with_class
from crosspatch.results.variant import Variant, every_variant, patched_direction

# So many cells travel with a page, about 12 MB of it for each million; of further prompts it is said where they are.
MOST_CELLS = 400_000
# Digits that are kept of a number: what is drawn and read off shows no more.
_DIGITS = 4
_TOKENS = ("token_id", "clean_token_id", "corrupted_token_id")
_NUMBERS = ("cts", "delta_clean", "delta_corrupted", "delta_patched", "kl_clean", "kl_patched")
# What the table of a prompt's layers shows of them.
_PROFILE = (
    "positions",
    "disagreements",
    "disagreement_rate",
    "ok_cells",
    "small_denominators",
    "outside_unit",
    "mean_cts",
    "transfer",
)


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
        problems: Mapping[str, ProblemLike],
        scores: pl.DataFrame | None,
        generations: pl.DataFrame | None,
        behaviour: pl.DataFrame | None,
        texts: Mapping[int, str] | None = None,
    ) -> Explorer:
        """The prompts that were patched, or, where none was, those that were answered, as far as there is room.

        `texts` of tokens by id; None: of those that were written. Raises ValueError for a prompt that `problems` lacks,
        a cell that stands there twice, or a CTS where the status says that there is none.
        """
        # Prompts that were only answered, not patched, are in Table 2; their texts would bury the patched ones.
        shown = scores if scores is not None else generations
        selection = _selection(shown, problems)
        ids = selection.shown
        # Whole layers come first: they are what a page opens with.
        found = [] if scores is None else sorted(every_variant(scores), key=lambda way: way.component != "resid_post")
        conditions = {} if scores is None else _conditions(scores)
        tokens = _Tokens(())
        cells: Mapping[Any, pl.DataFrame] = {}
        if scores is not None:
            written = dict(scores.select("token_id", "token").unique("token_id").iter_rows())
            scores = scores.filter(pl.col("prompt_id").is_in(ids))
            check_cells(scores)
            tokens = _Tokens.of(scores, {**(texts or {}), **written})
            cells = with_class(scores, written if texts is None else texts).partition_by("prompt_id", as_dict=True)
        texts_by_prompt, grades = _by_prompt(generations), _by_prompt(behaviour)
        parts = []
        for prompt_id in ids:
            told = texts_by_prompt.get((prompt_id,))
            answers = [] if told is None else Answers.of(prompt_id, told, grades.get((prompt_id,))).all
            pictures = [
                {"variant": place} | _picture(rows, variant, tokens, answers, conditions[variant.direction])
                for place, variant in enumerate(found)
                if (prompt_id,) in cells and not (rows := variant.every_row(cells[prompt_id,])).is_empty()
            ]
            in_cells = {row["text"] for picture in pictures for row in picture["rows"]}
            texts_of = [_text(answer, place in in_cells) for place, answer in enumerate(answers)]
            parts.append({"texts": texts_of, "pictures": pictures})
        index = {
            "prompts": [
                {"id": name, **_prompt(problems[prompt_id])} for name, prompt_id in zip(_names(ids), ids, strict=True)
            ],
            "variants": [_variant(variant) for variant in found],
            "classes": CLASSES,
            "statuses": STATUSES,
            "range": CTS_RANGE,
            "profile": _PROFILE,
            "vocabulary": tokens.listed,
            "formula": FORMULA,
            "formulas": formulas(_texts(parts, tokens)),
        }
        return cls(index, tuple(parts), selection)

    @property
    def any(self) -> bool:
        """Whether there is a prompt to show."""
        return bool(self.prompts)


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a page, the most frequent first: (id, legible text or None where it is not known)."""

    listed: tuple[tuple[int, str | None], ...]

    @classmethod
    def of(cls, scores: pl.DataFrame, known: Mapping[int, str]) -> _Tokens:
        ids = pl.concat([scores[column].rename("id") for column in _TOKENS]).value_counts(sort=True)["id"]
        return cls(tuple((token, legible(known[token]) if token in known else None) for token in ids))

    @cached_property
    def places(self) -> dict[int, int]:
        return {token: place for place, (token, _) in enumerate(self.listed)}


def _selection(shown: pl.DataFrame | None, problems: Mapping[str, ProblemLike]) -> Selection:
    """The prompts for which there is room: a cell takes 1, and where nothing was patched a token of a text does."""
    if shown is None:
        return Selection(())
    tokens = pl.col("token_count").sum() if "token_count" in shown.columns else pl.len()
    sizes = dict(shown.group_by("prompt_id").agg(tokens.cast(pl.Int64)).iter_rows())
    return Selection.of(prompts_in(shown, problems), problems, MOST_CELLS, sizes)


def _by_prompt(frame: pl.DataFrame | None) -> Mapping[Any, pl.DataFrame]:
    return {} if frame is None else frame.partition_by("prompt_id", as_dict=True, maintain_order=True)


def _conditions(scores: pl.DataFrame) -> dict[str, str]:
    """Under which condition the texts of each direction are kept."""
    first = patched_direction(scores)
    return {direction: "patched" if direction == first else REPAIRED for direction in scores["direction"].unique()}


def _picture(
    cells: pl.DataFrame, variant: Variant, tokens: _Tokens, answers: list[Answer], condition: str
) -> dict[str, Any]:
    """One prompt under one variant: a row for each patch, lowest first, and the cells of all rows in columns."""
    texts = {(answer.condition, answer.patch): place for place, answer in enumerate(answers)}
    profiles = {row["patch"]: row for row in prompt_profile(cells).iter_rows(named=True)}
    parts = cells.sort("step").partition_by("patch", as_dict=True)
    rows, start = [], 0
    for patch in sorted(profiles, key=patch_order):
        profile, steps = profiles[patch], parts[patch,].height
        rows.append(
            {
                "name": legible(_row_name(patch, profile["layer"], profile["head"])),
                "patch": legible(patch),
                "layer": profile["layer"],
                "start": start,
                "cells": steps,
                "text": (place := texts.get((condition, patch))),
                "letters": {} if place is None else _letters(parts[patch,], answers[place]),
                "profile": [profile[name] for name in _PROFILE],
            }
        )
        start += steps
    ordered = pl.concat([parts[patch,] for patch in sorted(profiles, key=patch_order)])
    columns = ordered.select(
        "step",
        "position",
        pl.col(*_TOKENS).replace_strict(tokens.places, return_dtype=pl.Int32),
        _place_in(CLASSES, "class"),
        _place_in(STATUSES, "status"),
        pl.col(*_NUMBERS).cast(pl.Float64).round_sig_figs(_DIGITS),
        "rank_corrupted",
    )
    return {"rows": rows, "ceiling": variant.ceiling, **{column.name: _values(column) for column in columns}}


def _place_in(names: Sequence[str], column: str) -> pl.Expr:
    return pl.col(column).replace_strict({name: place for place, name in enumerate(names)}, return_dtype=pl.Int8)


def _letters(cells: pl.DataFrame, answer: Answer) -> dict[str, str]:
    """Steps of the row to the letters of their tokens, where these are no whole letters by themselves."""
    found = whole_letters(list(map(legible, cells["token"])), answer.shared + answer.own)
    return {str(place): letters for place, letters in found.items()}


def _row_name(patch: str, layer: int | None, head: int | None) -> str:
    if layer is None or "+" in patch:
        return patch.split("@", maxsplit=1)[0]
    return str(layer) if head is None else f"{layer}.{head}"


def _values(column: pl.Series) -> list[Any]:
    """Values as JSON has them: an infinity or a NaN by its name."""
    values = column.to_list()
    if column.dtype.is_float() and not column.drop_nulls().is_finite().all():
        return [value if value is None or math.isfinite(value) else str(value) for value in values]
    return values


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


def _texts(parts: list[dict[str, Any]], tokens: _Tokens) -> Iterator[str]:
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


def _prompt(problem: ProblemLike) -> dict[str, str]:
    return {
        "domain": legible(domain_title(problem.domain)),
        "question": legible(problem.question),
        "answer": legible(problem.answer),
    }


def _variant(variant: Variant) -> dict[str, str]:
    return {name: legible(value) for name, value in variant.columns.items()} | {"moved": variant.moved}
