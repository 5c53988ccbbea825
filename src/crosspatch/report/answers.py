"""One prompt's answers as the page sets them side by side: clean, corrupted, and each patch's.

The texts are made legible here, and escaped by the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from crosspatch.characters import legible, natural_order
from crosspatch.patching.measures import LAYER_COMPONENTS

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
    """One generated text; `shared` is its beginning as far as it is the clean model's, `own` the rest.

    `single` is the (component, schedule) and layer of a patch at one place of one layer, None of other patches; of a
    steered text that of the place.
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


@dataclass(frozen=True)
class Answers:
    """The answers to one prompt; clean or corrupted may be missing. `others` are those of other children."""

    clean: Answer | None
    corrupted: Answer | None
    patched: tuple[Answer, ...]
    others: tuple[Answer, ...] = ()

    @classmethod
    def of(cls, prompt_id: str, generations: pl.DataFrame, behaviour: pl.DataFrame | None) -> Answers:
        """The prompt's answers out of all generations, with their grades where there are any."""
        rows = generations.filter(pl.col("prompt_id") == prompt_id).to_dicts()
        grades = {}
        if behaviour is not None:
            for grade in behaviour.filter(pl.col("prompt_id") == prompt_id).iter_rows(named=True):
                grades[grade["condition"], grade["patch"]] = grade
        texts = {row["condition"]: row["text"] for row in rows if row["patch"] is None}
        answers = []
        for row in sorted(rows, key=lambda row: natural_order(row["patch"] or "")):
            grade = grades.get((row["condition"], row["patch"]), {})
            text = row["text"] or ""
            # The clean answer is the measure of the others and so is not split itself.
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
        unpatched = {answer.condition: answer for answer in answers if answer.patch is None}
        patched = tuple(answer for answer in answers if answer.patch is not None)
        others = tuple(answer for name, answer in unpatched.items() if name not in ("clean", "corrupted"))
        return cls(unpatched.get("clean"), unpatched.get("corrupted"), patched, others)

    @property
    def all(self) -> list[Answer]:
        """Every text that is there: clean, corrupted, other children, then the patched ones by depth."""
        return [answer for answer in (self.clean, self.corrupted, *self.others, *self.patched) if answer is not None]


def _single(row: Mapping[str, Any]) -> tuple[tuple[str, str], int] | None:
    one = row["layer"] is not None and row["component"] in LAYER_COMPONENTS
    return ((row["component"], row["schedule"]), row["layer"]) if one else None


def _shared_words(text: str, clean: str | None) -> int:
    """Length of the common beginning, cut back to the start of the word in which the texts part."""
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
