r"""Finds the final answer of a text, or None if it has none.

The places to search, in order:
1. the last `\boxed{…}` that is not empty, together with boxes joined to it by `or`, `and` or a comma;
2. the last stated answer, on its line or the next: `**Answer:** …`, `the solutions are …`;
3. for a gold `x = …`: the last line with `x = value`. For several roots, the last values, as many as the gold has; for
   several unknowns, one value for each. If there is no such line: a value at the end of the last line;
4. for any other gold: the last mathematical piece of the text that could be such an answer;
5. a last line that states that there is no solution.

In 3 and 4 only asserted pieces count: "the probability of a sum of 7 is 1/6" asserts 1/6, and `x = 3` is no answer
if it is only tried, ruled out, or a limit of an integral (`math_pieces`).

The gold only determines which kind of answer to search for; this module does not grade the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from crosspatch.grading.math_answer import MathAnswer, Value, read_answer
from crosspatch.grading.math_expression import same_value
from crosspatch.grading.math_pieces import Piece, is_prose, pieces, pieces_from_end
from crosspatch.grading.maths_text import one_spelling, without_commands

_TAIL = 20_000  # only this many characters at the end are read
_STATED = re.compile(
    r"\b(?:answer(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s?(?:is|are|would be|must be|:|=)"
    r"|(?<!one )(?<!other )(?<!another )(?<!first )(?<!second )"
    r"(?:solutions?|roots?)(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s(?:is|are)\b"
    r"|answer\s?$)\s?:?(?=([^\n]*))",
    re.IGNORECASE | re.MULTILINE,
)
_REASON = re.compile(r"[,;]?\s\b(?:because|since|which|where|so that|when)\b")
_PAIR = re.compile(r"\(\s?([a-z])\s?,\s?([a-z])\s?\)\s?=\s?\(([^(),\n]{1,30}),([^(),\n]{1,30})\)")
_GLUED_UNIT = re.compile(r"(?<=\d)\s?[mgshlLAVWJN]$")
_NOTHING = re.compile(r"\bno (?:real )?(?:solutions?|roots?|answer)\b|\bundefined\b|\binfinitely many\b", re.IGNORECASE)


@dataclass(frozen=True)
class FinalAnswer:
    """The answer as it occurs in the text, and parsed: None if the text states that there is no answer."""

    text: str
    answer: MathAnswer | None


def find_answer(text: str, gold: MathAnswer) -> FinalAnswer | None:
    """Find a text's final answer; the kind of the gold helps to recognise it."""
    text = text[-_TAIL:]
    if len(gold.unknowns) > 1:
        text = _PAIR.sub(r"\1 = \3, \2 = \4", text)
    boxes, rest = _boxes(text)
    if boxes:
        return _from_box(boxes, gold)
    tidy = one_spelling(rest)
    return _stated(tidy, gold) or (_solved(tidy, gold) if gold.unknown else _last(tidy, gold)) or _nothing(tidy)


def _boxes(text: str) -> tuple[str, str]:
    r"""Return the content of the last boxes, joined, and the text without a truncated box."""
    closed: list[tuple[int, int, int]] = []
    opened: list[int | None] = []
    for match in re.finditer(r"\\f?boxed\s?\{|\\.|[{}]", text):
        token = match.group()
        if token == "}":
            if opened and (start := opened.pop()) is not None and text[start : match.start()].strip():
                closed.append((text.rfind("\\", 0, start), start, match.start()))
        elif token.endswith("{") and token != r"\{":
            opened.append(match.end() if "boxed" in token else None)
    if not closed:
        cut = next((start for start in opened if start is not None), None)
        if cut is None:
            return "", text
        line_end = text.find("\n", cut)
        return "", text[: text.rfind("\\", 0, cut)] + (text[line_end:] if line_end >= 0 else "")
    before, start, end = closed[-1]
    content = text[start:end]
    for earlier_before, earlier_start, earlier_end in reversed(closed[:-1]):
        between = re.sub(r"\\text\s?\{|\\quad|or|and|[\s$,;{}]", "", text[earlier_end:before][:40])
        if between or before - earlier_end > 40:
            break
        before, content = earlier_before, f"{text[earlier_start:earlier_end]} or {content}"
    return content.strip(), text


def _from_box(content: str, gold: MathAnswer) -> FinalAnswer | None:
    tidy = " or ".join(line for line in one_spelling(content).split("\n") if line.strip())
    prose = any(is_prose(token, "=") for token in tidy.split())
    answer = None if prose else _read(tidy, gold)
    if answer is None:
        readable = [a for piece in pieces(tidy) if (a := _read(piece.text, gold))]
        answer = readable[-1] if readable else None
    # Words in a box are a wrong answer, but unreadable symbols are no answer.
    if answer is None and not re.search(r"[^\W\d_]{3,}", without_commands(tidy)):
        return None
    return FinalAnswer(content, answer)


def _stated(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    for match in reversed(list(_STATED.finditer(tidy))[-20:]):
        line = match.group(1).strip() or tidy[match.end(1) :].lstrip().partition("\n")[0]
        line = _REASON.split(line)[0].strip()
        found = list(pieces(line))
        runs = [piece.text for piece in found if line.startswith(piece.text)][:1]
        runs += [piece.text for piece in found[-1:] if _ends(line, piece.text) and piece.claimed]
        read = [(run, answer) for run in runs if (answer := _read(run, gold))]
        for run, answer in read:
            if _plausible(answer, gold):
                return FinalAnswer(run, answer)
        for run, answer in read:
            if not gold.unknown or answer.unknown:
                return FinalAnswer(run, answer)
        if nothing := _NOTHING.search(line):
            return FinalAnswer(nothing.group(), None)
    return None


def _solved(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    """Return the last asserted values of the unknown or, if there are none, the last mentioned values."""
    found = [piece for piece in pieces_from_end(tidy) if not piece.supposed]
    claimed = [piece for piece in found if piece.claimed or piece.ruled_out]
    return _values_of(claimed, gold) or _values_of(found, gold) or _last_line(tidy, gold)


def _values_of(found: list[Piece], gold: MathAnswer) -> FinalAnswer | None:
    """Return the values in pieces, the last one first; values that are ruled out do not count."""
    unknowns = gold.unknowns
    letter = re.compile(rf"(?<![a-zA-Z\\])(?:{'|'.join(unknowns)})(?:\b|_)")
    said: list[str] = []
    values: list[Value] = []
    out: list[Value] = []
    for piece in found:
        answer = read_answer(piece.text) if letter.search(piece.text) else None
        if answer is None or not answer.numeric or not any(v.label in unknowns for v in answer.values):
            continue
        about = [v for v in answer.values if v.label in unknowns or (not v.label and len(unknowns) == 1)]
        if piece.ruled_out:
            out += about
            continue
        if len(unknowns) > 1:
            # For each unknown, only the last value counts.
            about = [v for v in about if v.label not in {w.label for w in values}]
        new = [v for v in about if not _among(v, values) and not _among(v, out)]
        values += new
        said = [piece.text, *said] if new else said
        if len(values) >= len(gold.values):
            break
    return FinalAnswer(", ".join(said), MathAnswer(tuple(values))) if values else None


def _among(value: Value, others: list[Value]) -> bool:
    return any(value.label in (other.label, "") and same_value(value.expr, other.expr) for other in others)


def _last_line(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    """Return the value at the end of the last line: without an unknown, or of another unknown."""
    line = tidy.rstrip().rpartition("\n")[2].strip()
    found = list(pieces(line))
    if not found or not _ends(line, found[-1].text) or not found[-1].claimed:
        return None
    run = found[-1].text
    before = line[: line.rfind(run)].rstrip()
    answer = _read(run, gold)
    if answer is None or not answer.numeric:
        return None
    if answer.unknown or (not before or re.search(r"\b(?:is|are|equals|be|get)$|:$", before)):
        return FinalAnswer(run, answer) if answer.unknown or _plausible(answer, gold) else None
    return None


def _last(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    for piece in pieces_from_end(tidy):
        answer = _read(piece.text, gold) if piece.claimed else None
        if answer and _plausible(answer, gold) and (gold.numeric or re.search(r"[\d=+*/^\\-]", piece.text)):
            return FinalAnswer(piece.text, answer)
    return None


def _nothing(tidy: str) -> FinalAnswer | None:
    """Return the last line, if it states that there is no answer or that any value is an answer."""
    found = _NOTHING.search(tidy.rstrip().rpartition("\n")[2])
    return FinalAnswer(found.group(), None) if found else None


def _read(text: str, gold: MathAnswer) -> MathAnswer | None:
    """Parse an answer; if the gold is a number, a letter after a number is a unit, as in `5m`."""
    answer = read_answer(text, gold.constant)
    if gold.numeric and (answer is None or not answer.numeric) and (unit := _GLUED_UNIT.search(text)):
        return read_answer(text[: unit.start()], gold.constant) or answer
    return answer


def _plausible(answer: MathAnswer, gold: MathAnswer) -> bool:
    """Whether a value has the form of the gold: a number if the gold is a number, and the same unknowns."""
    if gold.unknown:
        return answer.numeric and {v.label for v in answer.values} <= {*gold.unknowns, ""}
    return answer.numeric or not gold.numeric


def _ends(line: str, run: str) -> bool:
    return line.rstrip(" .,;:?!").endswith(run.rstrip(" .,;:?!"))
