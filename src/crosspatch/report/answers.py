"""The answers to one prompt: of the clean model, of the corrupted model, and of each patch, as legible text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.characters import legible
from crosspatch.patching.measures import LAYER_COMPONENTS
from crosspatch.statistics.answers import condition_order

_HEALTH = {
    "no_eos": "no end of text",
    "repetition": "repeats itself",
    "backslash_runs": "runs of backslashes",
    "escaped_newlines": "escaped newlines",
    "unclosed": "LaTeX not closed",
    "unparsable": "no LaTeX",
}


@dataclass(frozen=True)
class Answer:
    """One generated text; `shared` is the beginning that it has in common with the clean text, `own` the rest.

    `single` is ((component, schedule), layer) where one site of one layer was patched or steered, else None.
    """

    condition: str
    patch: str | None
    shared: str
    own: str
    token_count: int | None
    stop_reason: str | None
    verdict: str | None
    operation: str | None
    health: tuple[str, ...]
    likeness: str
    single: tuple[tuple[str, str], int] | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        return self.shared + self.own


def prompt_answers(generations: pl.DataFrame, behaviour: pl.DataFrame | None) -> list[Answer]:
    """The answers to one prompt with their grades, if any: clean, corrupted, other models, then patches by layer.

    Both frames hold that prompt alone.
    """
    grades: dict[tuple[str, str | None], dict[str, Any]] = {}
    if behaviour is not None:
        grades = {(grade["condition"], grade["patch"]): grade for grade in behaviour.iter_rows(named=True)}
    rows = sorted(generations.to_dicts(), key=lambda row: condition_order(row["condition"], row["patch"]))
    texts = {row["condition"]: row["text"] for row in rows if row["patch"] is None}
    answers = []
    for row in rows:
        grade, text = grades.get((row["condition"], row["patch"]), {}), row["text"] or ""
        # Other answers are compared with the clean one, which is not split.
        same = 0 if row["condition"] == "clean" else _shared_words(text, texts.get("clean"))
        answers.append(
            Answer(
                condition=row["condition"],
                patch=row["patch"],
                shared=legible(text[:same]),
                own=legible(text[same:]),
                token_count=row["token_count"],
                stop_reason=row["stop_reason"],
                verdict=grade.get("verdict"),
                operation=grade.get("operation"),
                health=tuple(_HEALTH.get(flag, legible(flag)) for flag in grade.get("health") or ()),
                likeness=_likeness(text, texts.get("clean"), texts.get("corrupted")),
                single=_single(row),
            )
        )
    return answers


def unpatched(answers: Sequence[Answer], condition: str) -> Answer | None:
    """The text of an unpatched model, such as clean; None if it has none."""
    return next((answer for answer in answers if answer.patch is None and answer.condition == condition), None)


def _single(row: Mapping[str, Any]) -> tuple[tuple[str, str], int] | None:
    one = row["layer"] is not None and row["component"] in LAYER_COMPONENTS
    return ((row["component"], row["schedule"]), row["layer"]) if one else None


def _shared_words(text: str, clean: str | None) -> int:
    """Length of the common beginning, up to the word at which the texts diverge."""
    if not clean:
        return 0
    pairs = enumerate(zip(text, clean, strict=False))
    length = next((place for place, (a, b) in pairs if a != b), min(len(text), len(clean)))
    if length in (len(text), 0):
        return length
    while length and not text[length - 1].isspace():
        length -= 1
    return length


def _likeness(text: str, clean: str | None, corrupted: str | None) -> str:
    like = [name for name, other in (("clean", clean), ("corrupted", corrupted)) if other == text]
    if like:
        return f"the {' and the '.join(like)} text"
    return "a text of its own" if clean is not None or corrupted is not None else "its text"
