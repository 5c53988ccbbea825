r"""The final answer of a text, found where such answers are written; None where there is none.

Where it is looked for, in this order:
1. the last `\boxed{…}` that is not empty, together with boxes joined to it by `or`, `and` or a comma;
2. the last stated answer, on its line or the next: `**Answer:** …`, `the solutions are …`;
3. gold `x = …`: the last line that says `x = value`, and for several roots as many of the last values as
   there are; failing that, a last line that ends in a bare value;
4. any other gold: the last mathematical piece of the text that could be such an answer.

The gold says only what kind of answer to look for; whether the one found is right is not known here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from crosspatch.behaviour.latex_text import one_spelling, without_commands
from crosspatch.behaviour.math_answer import MathAnswer, Value, read_answer
from crosspatch.behaviour.math_expression import same_value
from crosspatch.behaviour.math_pieces import is_prose, pieces, pieces_from_end

_TAIL = 20_000  # characters read, from the end, where answers stand
_STATED = re.compile(
    r"\b(?:answer(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s?(?:is|are|would be|must be|:|=)"
    r"|(?:solutions?|roots?)(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s(?:is|are)\b"
    r"|answer\s?$)\s?:?([^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_REASON = re.compile(r"[,;]?\s\b(?:because|since|which|where|so that|when)\b")
_NOTHING = re.compile(r"\bno (?:real )?(?:solutions?|roots?|answer)\b|\bundefined\b|\binfinitely many\b", re.IGNORECASE)


@dataclass(frozen=True)
class FinalAnswer:
    """The answer as it was found in the text, and as it was read: None where it says that there is none."""

    text: str
    answer: MathAnswer | None


def find_answer(text: str, gold: MathAnswer) -> FinalAnswer | None:
    """The final answer of any text, which the gold's kind helps to recognise."""
    text = text[-_TAIL:]
    boxes, rest = _boxes(text)
    if boxes:
        return _from_box(boxes, gold)
    tidy = one_spelling(rest)
    return _stated(tidy, gold) or (_solved(tidy, gold) if gold.unknown else _last(tidy, gold))


def _boxes(text: str) -> tuple[str, str]:
    r"""The content of the last boxes, joined, and the text without a box that was cut off."""
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
    tidy = one_spelling(content)
    prose = any(is_prose(token, "=") for token in tidy.split())
    answer = None if prose else read_answer(tidy, gold.constant)
    if answer is None:
        readable = [a for run in pieces(tidy) if (a := read_answer(run, gold.constant))]
        answer = readable[-1] if readable else None
    # Words in a box are an answer too, and a wrong one; signs that nobody can read are none.
    if answer is None and not re.search(r"[^\W\d_]{3,}", without_commands(tidy)):
        return None
    return FinalAnswer(content, answer)


def _stated(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    for match in reversed(list(_STATED.finditer(tidy))[-20:]):
        line = match.group(1).strip() or tidy[match.end() :].lstrip().partition("\n")[0]
        line = _REASON.split(line)[0].strip()
        runs = list(pieces(line))
        ends = [run for run in runs if line.startswith(run)][:1] + [run for run in runs[-1:] if _ends(line, run)]
        read = [(run, answer) for run in ends if (answer := read_answer(run, gold.constant))]
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
    """The last values that the unknown is said to have."""
    said: list[str] = []
    values: list[Value] = []
    for run in pieces_from_end(tidy):
        if not re.search(rf"(?<![a-zA-Z\\]){gold.unknown}\b|(?<![a-zA-Z\\]){gold.unknown}_", run):
            continue
        answer = read_answer(run)
        if answer is None or not answer.numeric or not any(v.label == gold.unknown for v in answer.values):
            continue
        about = [v for v in answer.values if v.label in (gold.unknown, "")]
        new = [v for v in about if not any(same_value(v.expr, w.expr) for w in values)]
        values += new
        said = [run, *said] if new else said
        if len(values) >= len(gold.values):
            break
    if values:
        return FinalAnswer(", ".join(said), MathAnswer(tuple(values)))
    line = tidy.rstrip().rpartition("\n")[2].strip()
    runs = list(pieces(line))
    if not runs or not _ends(line, runs[-1]):
        return None
    before = line[: line.rfind(runs[-1])].rstrip()
    answer = read_answer(runs[-1])
    if answer and _plausible(answer, gold) and (not before or re.search(r"\b(?:is|are|equals|be|get)$|:$", before)):
        return FinalAnswer(runs[-1], answer)
    return None


def _last(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    for run in pieces_from_end(tidy):
        answer = read_answer(run, gold.constant)
        if answer and _plausible(answer, gold) and (gold.numeric or re.search(r"[\d=+*/^\\-]", run)):
            return FinalAnswer(run, answer)
    return None


def _plausible(answer: MathAnswer, gold: MathAnswer) -> bool:
    """Whether it could be an answer to the same question: a number for a number, about the same unknown."""
    if gold.unknown:
        return answer.numeric and {v.label for v in answer.values} <= {gold.unknown, ""}
    return answer.numeric or not gold.numeric


def _ends(line: str, run: str) -> bool:
    return line.rstrip(" .,;:?!").endswith(run.rstrip(" .,;:?!"))
