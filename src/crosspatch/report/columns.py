"""The cells of one mode as the explorer gets them: prompt by prompt, a row for each patch, all cells in columns.

What can be made of all prompts at once is; a page may hold hundreds of thousands of cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from crosspatch.characters import legible, natural_order
from crosspatch.patching.measures import LAYER_COMPONENTS
from crosspatch.report.answers import Answer
from crosspatch.report.pictures.heatmap import STATUSES, cell_notes
from crosspatch.statistics.patch_mode import PatchMode
from crosspatch.statistics.profile import prompt_profile
from crosspatch.statistics.token_class import CLASSES

# Digits that are kept of a number: what is drawn and read off shows no more.
_DIGITS = 4
_TOKENS = ("token_id", "clean_token_id", "corrupted_token_id")
_NUMBERS = ("cts", "delta_clean", "delta_corrupted", "delta_patched", "kl_clean", "kl_patched")
_COLUMNS = ("step", "position", *_TOKENS, "class", "status", *_NUMBERS, "rank_corrupted")
# A token may be some bytes of a letter ("∫" is three tokens to many tokenizers): read alone it is this character.
_BROKEN = "\ufffd"
# So many letters a broken token may turn out to hold, and the one that follows must be found within so many.
_MOST_LETTERS = 4
# What the table of a prompt's layers shows of them.
PROFILE = (
    "positions",
    "disagreements",
    "disagreement_rate",
    "ok_cells",
    "small_denominators",
    "outside_unit",
    "mean_cts",
    "recovered_fraction",
)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a page, the most frequent first: (id, legible text or None where it is not known)."""

    listed: tuple[tuple[int, str | None], ...]

    @classmethod
    def of(cls, scores: pl.DataFrame, known: Mapping[int, str]) -> Tokens:
        """Those that some model wrote or predicted; `known` are their texts by id."""
        ids = pl.concat([scores[column].rename("id") for column in _TOKENS]).value_counts(sort=True)["id"]
        return cls(tuple((token, legible(known[token]) if token in known else None) for token in ids))

    @cached_property
    def places(self) -> dict[int, int]:
        """Each token's place among them, by id."""
        return {token: place for place, (token, _) in enumerate(self.listed)}


@dataclass(frozen=True)
class ModeCells:
    """The cells [patches from the lowest on, steps] of each prompt, what they come to, and the texts of tokens."""

    mode: PatchMode
    cells: Mapping[str, pl.DataFrame]
    profiles: Mapping[str, list[dict[str, Any]]]
    shown: Mapping[str, str]

    @classmethod
    def of(cls, scores: pl.DataFrame, mode: PatchMode, tokens: Tokens) -> ModeCells:
        """Those of all prompts in `scores`, which have a column `class`; numbers are rounded, names are places."""
        own = mode.every_row(scores)
        order = {patch: at for at, patch in enumerate(sorted(own["patch"].unique(), key=natural_order))}
        ordered = own.sort(pl.col("patch").replace_strict(order, return_dtype=pl.Int32), "step").select(
            "prompt_id",
            "patch",
            "token",
            "step",
            "position",
            pl.col(*_TOKENS).replace_strict(tokens.places, return_dtype=pl.Int32),
            _place_in(CLASSES, "class"),
            _place_in(STATUSES, "status"),
            pl.col(*_NUMBERS).cast(pl.Float64).round_sig_figs(_DIGITS),
            "rank_corrupted",
        )
        profiles: dict[str, list[dict[str, Any]]] = {}
        for row in prompt_profile(own).iter_rows(named=True):
            profiles.setdefault(row["prompt_id"], []).append(row)
        for rows in profiles.values():
            rows.sort(key=lambda row: order[row["patch"]])
        return cls(
            mode,
            {str(name): part for (name,), part in ordered.partition_by("prompt_id", as_dict=True).items()},
            profiles,
            {token: legible(token) for token in own["token"].unique()},
        )

    def picture(self, prompt_id: str, answers: Sequence[Answer], condition: str) -> dict[str, Any]:
        """One prompt as JSON: a row for each patch, lowest first, and the cells of all rows in columns.

        `condition` is what the texts of this direction are called among the answers.
        """
        texts = {(answer.condition, answer.patch): place for place, answer in enumerate(answers)}
        cells = self.cells[prompt_id]
        tokens = cells["token"].to_list()
        rows, start = [], 0
        for profile in self.profiles[prompt_id]:
            patch, end = profile["patch"], start + profile["positions"]
            place = texts.get((condition, patch))
            written = [self.shown[token] for token in tokens[start:end]]
            rows.append(
                {
                    "name": legible(_row_name(profile)),
                    "patch": legible(patch),
                    "layer": profile["layer"],
                    "start": start,
                    "cells": end - start,
                    "text": place,
                    "letters": {} if place is None else _letters(written, answers[place]),
                    "profile": [profile[name] for name in PROFILE],
                }
            )
            start = end
        columns = {name: _values(cells[name]) for name in _COLUMNS}
        counts = [int((cells["status"] == place).sum()) for place in range(len(STATUSES))]
        notes = cell_notes(counts, cells["cts"])
        return {"rows": rows, "ceiling": self.mode.ceiling, "notes": notes, **columns}


def _place_in(names: Sequence[str], column: str) -> pl.Expr:
    return pl.col(column).replace_strict({name: place for place, name in enumerate(names)}, return_dtype=pl.Int8)


def _letters(tokens: list[str], answer: Answer) -> dict[str, str]:
    """Steps of the row to the letters of their tokens, where these are no whole letters by themselves."""
    found = whole_letters(tokens, answer.shared + answer.own)
    return {str(place): letters for place, letters in found.items()}


def _row_name(profile: Mapping[str, Any]) -> str:
    """The layer, with the head of a single one; of a set of places the patch."""
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


def whole_letters(tokens: Sequence[str], text: str) -> dict[int, str]:
    """Index of a token to what it is to show, for the tokens of a text that read otherwise by themselves.

    Beside the whole text broken letters are known again: the first token of a run gets them all, the others none. Empty
    where there is none, or where the tokens do not make up the text.
    """
    found: dict[int, str] = {}
    at, i = 0, 0
    while i < len(tokens):
        if _BROKEN not in tokens[i]:
            if not text.startswith(tokens[i], at):
                # A text ends before tokens that are no letters (end of text).
                if at == len(text):
                    return found
                # Some tokenizers drop the space before a token that is read alone.
                if not text.startswith(f" {tokens[i]}", at):
                    return {}
                found[i] = f" {tokens[i]}"
            at += len(found.get(i, tokens[i]))
            i += 1
            continue
        end = i
        while end < len(tokens) and (_BROKEN in tokens[end] or not tokens[end]):
            end += 1
        stop = _next(text, at, tokens[end] if end < len(tokens) else "", _MOST_LETTERS * (end - i))
        if stop is None:
            return {}
        found |= {i: text[at:stop]} | dict.fromkeys(range(i + 1, end), "")
        at, i = stop, end
    return found


def _next(text: str, at: int, following: str, reach: int) -> int | None:
    """Where a run of letters from `at` on ends: at the token that follows, or with the text."""
    if not following or not text[at:]:
        return len(text)
    stop = text.find(following, at + 1, at + reach + len(following))
    if stop >= 0:
        return stop
    return len(text) if len(text) - at <= reach else None
