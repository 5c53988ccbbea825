r"""Finds the final answer of a text, or None if it has none.

The places to search, in order, in a text whose reasoning (`<think>…</think>`) was removed:
1. the last `\boxed{…}` that is not empty, together with boxes joined to it, as in `x = \boxed{2}, y = \boxed{3}`; but a
   statement of the answer behind it wins (`**Answer:** 6`, `#### 6`);
2. the last stated answer, on its line or the next: `**Answer:** …`, `the solutions are …`;
3. for a gold `x = …`: the last line with `x = value`. For several roots, the last values, as many as the gold has; for
   several unknowns, one value for each. If there is no such line: a value at the end of the last line;
4. for any other gold: the last mathematical piece of the text that could be such an answer;
5. a last line that states that there is no solution.

In 3 and 4 only asserted pieces count: "the probability of a sum of 7 is 1/6" asserts 1/6, and `x = 3` is no answer
if it is only tried, ruled out, or a limit of an integral (`Piece`).

The gold only determines which kind of answer to search for; this module does not grade the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat, takewhile

from crosspatch.grading.equality import equal_values, tuples
from crosspatch.grading.math_answer import NO_SOLUTION, UNITS, MathAnswer, Value, read_answer
from crosspatch.grading.spelling import one_spelling, without_commands

_TAIL = 20_000  # only this many characters at the end are read
_STATED = re.compile(
    r"(?im)\b(?:answer(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s?(?:is|are|(?:would|must|should) be|:|=)"
    r"|(?<!one )(?<!other )(?<!another )(?<!first )(?<!second )"
    r"(?:solutions?|roots?)(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s(?:is|are)\b|answer\s?$)\s?:?(?=([^\n]*))"
)
# A statement that wins over an earlier box: at the beginning of a sentence.
_RESTATED = re.compile(
    r"(?im)(?:^|(?<=[.!?:])|(?<=[.!?:] ))\W*(?:(?:so|thus|therefore|hence|wait|no)\b\W*)*"
    r"(?:the )?(?:final |correct |right |corrected )?"
    r"answer(?: is|\s?[:=])\s?:?(?=([^\n]*))"
)
_BULLET = re.compile(r"(?m)^ *(?:#+|[*•]|-(?= +(?:[a-zA-Z*$]|\\\())|>+|\d{1,2}[.)]) +(?=\S)")
_HASHES = re.compile(r"^####\s*(?=[^\n]*\d|[^\n]{1,20}$)([^\n]*)$", re.MULTILINE)
# What may stand between boxes of one answer: commas, `and`, `or`, and names in front of the next box.
_LABEL = re.compile(r"(?:\\?[a-zA-Z]+|\([a-z](?:, ?[a-z])*\))(?:_\{?\w+\}?)?'*(?:\([a-z]\))?\s*=\s*$")
_JOINS = re.compile(
    r"(?!.*\b(?:but|not|so|then|thus|instead|is|was|wait|no)\b)(?:(?:[^\w.=+*/<>-]|\\q?quad|\\text){0,12}"
    r"|[^.\n]{0,30}\b(?:and|or)\b[^.\n]{0,30}|[^\w.=]{0,9}[a-zA-Z(][^.\n]{0,12}=\s*)"
)
_GLUED_UNIT = re.compile(r"(?<=\d)\s?[mgshlLAVWJN](?:\^\{?[23]\}?)?$")
_NOTHING = re.compile(rf"\b{NO_SOLUTION}|\binfinitely many\b", re.IGNORECASE)


@dataclass(frozen=True)
class FinalAnswer:
    """The answer as it occurs in the text and where, and parsed: None if the text states that there is no answer."""

    text: str
    answer: MathAnswer | None
    where: str


def find_answer(text: str, gold: MathAnswer) -> FinalAnswer | None:
    """Find the final answer of a text without reasoning; the kind of the gold helps to recognise it."""
    boxes, rest = boxed(text[-_TAIL:], [value.label for value in gold.values])
    tidy = one_spelling(_BULLET.sub("", rest))
    if boxes:
        return _stated(tidy, gold, _RESTATED) or _from_box(boxes, gold)
    found = _stated(tidy, gold, _STATED)
    if found is None and gold.unknowns:
        found = _solved(tidy, gold)
    if found is None and len(gold.unknowns) != 1:
        found = _last(tidy, gold)
    return found or _nothing(tidy.rstrip().rpartition("\n")[2])


def without_reasoning(text: str) -> str:
    """Return the text behind its reasoning, which ends with `</think>`; `####` in front of a value reads `Answer:`."""
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    return _HASHES.sub(r"Answer: \1", text)


def boxed(text: str, names: Sequence[str] = ()) -> tuple[str, str]:
    r"""Return the content of the last boxes, joined, and the text behind them; without boxes, the whole text.

    Boxes belong together if nothing but a name, a comma, `and` or `or` is between them, or if they have all `names`. A
    truncated box is removed from the text.
    """
    closed: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int] | None] = []
    for match in re.finditer(r"\\{1,2}f?boxed\s?\{|\\.|[{}]", text):
        token = match.group()
        if token == "}":
            if opened and (box := opened.pop()) is not None and text[box[1] : match.start()].strip():
                closed.append((*box, match.start()))
        elif token.endswith("{") and token != r"\{":
            opened.append(match.span() if "boxed" in token else None)
    if not closed:
        cut = next((box[0] for box in opened if box), len(text))
        return "", text[:cut] + "".join(text[cut:].partition("\n")[1:])
    labels = [label[0] if (label := _LABEL.search(text[max(0, box[0] - 20) : box[0]])) else "" for box in closed]
    first = len(closed) - 1
    while first and closed[first - 1][2] < closed[first][0]:  # nested boxes are one
        if not _JOINS.fullmatch(text[closed[first - 1][2] + 1 : closed[first][0]]):
            break
        first -= 1
    if (
        len(names) > 1
        and "" not in names
        and {re.sub(r"_\w+|[\s={}$]", "", label) for label in labels[-len(names) :]} == {*names}
    ):
        first = min(first, max(0, len(closed) - len(names)))
    contents = [text[start:end].strip() for _, start, end in closed[first:]]
    if len(contents) > 1:
        contents = [label + content for label, content in zip(labels[first:], contents, strict=True)]
    return " or ".join(contents), text[closed[-1][2] + 1 :]


def _from_box(content: str, gold: MathAnswer) -> FinalAnswer | None:
    tidy = " or ".join(line for line in one_spelling(content).split("\n") if line.strip())
    answer = _read(tidy, gold)
    if answer is None:
        among_words = [found for piece in pieces(tidy) if (found := _read(piece.text, gold)) and piece.claimed]
        answer = among_words[0] if len(among_words) == 1 else None
    # Words in a box are a wrong answer, but unreadable symbols are no answer.
    if answer is None and not re.search(r"[^\W\d_]{3,}", without_commands(tidy)):
        return None
    return FinalAnswer(content, answer, "box")


def _stated(tidy: str, gold: MathAnswer, pattern: re.Pattern[str]) -> FinalAnswer | None:
    for match in reversed(list(pattern.finditer(tidy))[-20:]):
        line = match.group(1).strip() or _formulas(tidy[match.end(1) :].lstrip())
        line = re.sub(r" [(\[][^()\[\]]*[a-z]{3}[^()\[\]]*[)\]]\W*$", "", line)  # (3 marks)
        runs = [
            piece.text
            for piece in pieces(line)
            if line.startswith(piece.text) or (pattern is _STATED and _ends(line, piece.text) and piece.claimed)
        ]
        if read := [(run, answer) for run in runs if (answer := _read(run, gold))]:
            return FinalAnswer(*max(read, key=lambda found: _plausible(found[1], gold)), "statement")
        if nothing := _nothing(line):
            return nothing
    return None


def _formulas(text: str) -> str:
    """Return the lines at the beginning of a text that are without words, joined, or else the first line."""
    lines = text.split("\n")
    formulas = takewhile(lambda line: line.strip() and not any(map(is_prose, line.split(), repeat("="))), lines)
    return " or ".join(formulas) or lines[0]


def _solved(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    """Return the last asserted values of the unknown; values that are ruled out do not count."""
    unknowns = gold.unknowns
    said: list[str] = []
    values: list[Value] = []
    out: list[Value] = []
    for piece in pieces_from_end(tidy):
        answer = read_answer(piece.text) if re.search(r"=|\\in|\\approx|~", piece.text) else None
        stated = piece.claimed or piece.ruled_out or piece.before.endswith("value of")
        if answer is None or not answer.numeric or not stated:
            continue
        about = [v for v in answer.values if v.label in unknowns or (not v.label and len(unknowns) == 1)]
        if piece.ruled_out:
            out += about
            continue
        if len(unknowns) > 1:  # for each unknown, only the last value counts
            about = [v for v in about if v.label not in {w.label for w in values}]
        known = [*values, *out]
        new = [v for v in about if not any(v.label in (w.label, "") and equal_values(v.expr, w.expr) for w in known)]
        values += new
        said = [piece.text, *said] if new else said
        if len(values) >= len(gold.values):
            break
    if values:
        return FinalAnswer(", ".join(said), MathAnswer("", tuple(values)), "values of the unknown")
    return _last_line(tidy, gold)


def _last_line(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    """Return the value at the end of the last line: without an unknown, or of another unknown."""
    line = tidy.rstrip().rpartition("\n")[2].strip()
    piece = next(reversed(list(pieces(line))), None)
    if piece is None or not piece.claimed or not _ends(line, piece.text):
        return None
    answer = _read(piece.text, gold)
    if answer is None or not answer.numeric:
        return None
    stated = answer.unknowns or (_plausible(answer, gold) and re.search(r"(?:^|is|are|equals|be|get)$", piece.before))
    return FinalAnswer(piece.text, answer, "last line") if stated else None


def _last(tidy: str, gold: MathAnswer) -> FinalAnswer | None:
    for piece in pieces_from_end(tidy):
        answer = _read(piece.text, gold) if piece.claimed else None
        if answer and _plausible(answer, gold) and (gold.numeric or re.search(r"[\d=+*/^\\-]", piece.text)):
            return FinalAnswer(piece.text, answer, "last formula")
    return None


def _nothing(line: str) -> FinalAnswer | None:
    """Return what a line states about the answer, if it states that there is none or that any value is one."""
    found = _NOTHING.search(line)
    return FinalAnswer(found.group(), read_answer(found.group()), "no solution stated") if found else None


def _read(text: str, gold: MathAnswer) -> MathAnswer | None:
    """Parse an answer; if the gold is a number, a letter after a number is a unit, as in `5m`."""
    answer = read_answer(text, gold.constant)
    if gold.numeric and (answer is None or not answer.numeric) and (unit := _GLUED_UNIT.search(text)):
        return read_answer(text[: unit.start()], gold.constant) or answer
    return answer


def _plausible(answer: MathAnswer, gold: MathAnswer) -> bool:
    """Whether a value has the form of the gold: a number if the gold is a number, and the same unknowns."""
    if gold.unknowns:
        named = answer.numeric and {v.label for v in answer.values} <= {*gold.unknowns, ""}
        return named or tuples(answer) is not None
    return not gold.numeric or all(v.constant or (v.equation and not v.expr.rhs.free_symbols) for v in answer.values)


def _ends(line: str, run: str) -> bool:
    return line.rstrip(" .,;:?!").endswith(run.rstrip(" .,;:?!"))


_PIECES = 40  # the maximum number of pieces to try, from the end
_WORDS = 12  # how many words before a piece are examined; half as many after it

# Words before and after a piece that is ruled out.
_RULED_OUT = re.compile(
    r"(?i)(?:n't|\b(?:not|cannot|never))(?: be)?$|\b(?:except|(?:reject|discard|exclud|ignor)(?:e|ing)?)$"
)
_WHICH_IS_OUT = re.compile(
    r"(?i)(?:is|are|was|would be) (?:not\b|(?:an )?(?:extraneous|impossible|invalid|rejected))"
    r"|(?:does|do|did|can|could|must|will|is)(?: not|n't)\b|cannot\b|fails\b|must be (?:rejected|discarded)"
)
# Words before a piece that is not the answer: "greater than 7", "of radius 4", "if x = 3", "try x = 3".
_SPOKEN_OF = re.compile(
    r"(?i)\b(?:(?:tends|goes|close) to|at (?:least|most)|half|twice|(?<!answer )(?<!result )(?<!value )being|"
    r"from(?:.{1,40}\bto)?|than|with|using|approach(?:es|ing)|radius|length|width|height|"
    r"side|edge|symbol|(?<!given )by|if|when|say|put|plug(?:ging)?(?: in)?|substitut(?:e|ing)|"
    r"try(?:ing)?|let(?:ting|'s say)?|suppose|assum(?:e|ing)|guess)$"
)
# "has an area of 36" asserts a value; "rolling a sum of 7" does not.
_OF_ITS_OWN = re.compile(r"\b(?:is|are|was|ha[sd]|have|gets?|gives?|makes?|for|to|yields?) an? (?:[a-z-]+ ){1,3}of$")
_REMARK = re.compile(r"\([a-zA-Z]{2,} [^()]*\)\.?|(?i:\W*(?:check|verif)\w*:.*)")


@dataclass(frozen=True)
class Piece:
    """A piece, and the words of its sentence before and after it."""

    text: str
    before: str = ""
    behind: str = ""

    @property
    def ruled_out(self) -> bool:
        """Whether the sentence negates the piece."""
        return bool(_RULED_OUT.search(self.before) or _WHICH_IS_OUT.match(self.behind))

    @property
    def claimed(self) -> bool:
        """Whether the sentence asserts the piece, judging by the words around it."""
        if self.ruled_out or _SPOKEN_OF.search(self.before):
            return False
        if not re.search(r"\bof$", self.before) or _OF_ITS_OWN.search(self.before):
            return True
        # "15% of 80 = 12" is a claim, "the derivative of f(x) = 3x" is not.
        return "=" in self.text and not re.match(r"\w'*(?:\(\w\))?\s?=", self.text)


def pieces_from_end(tidy: str) -> Iterator[Piece]:
    """Yield the last pieces, the very last one first; lines that are remarks in brackets are skipped."""
    lines = (reversed(list(pieces(line))) for line in reversed(tidy.split("\n")) if not _REMARK.fullmatch(line.strip()))
    return islice((piece for line in lines for piece in line), _PIECES)


def pieces(text: str) -> Iterator[Piece]:
    """Yield the longest pieces between words of prose, ends of sentences and ends of lines."""
    for line in text.split("\n"):
        tokens = line.split()
        start = sentence = 0
        for i, token in enumerate(tokens):
            prose = is_prose(token, tokens[i + 1] if i + 1 < len(tokens) else "")
            ends = token[-1] in ".;:?!" and not token.endswith(r"\;")
            if prose or ends or i + 1 == len(tokens):
                yield from _finished(tokens, sentence, start, i if prose else i + 1)
                start = i + 1
            if ends:
                sentence = i + 1


def is_prose(token: str, following: str) -> bool:
    """Whether a token is a word; `following`, the next token, distinguishes the article `a` from a variable."""
    bare = token.strip(".,;:?!()")
    if bare in ("or", "and", "dx", "dy"):
        return False
    if bare in ("a", "A", "I"):
        return not re.match(r"[=+*/^<>≤≥≠-]|\\(?:approx|in|[lg]eq?|neq?)", following)
    return re.search(r"[^\W\d_]{2,}", re.sub(r"\b[a-z]{2}(?=\^)", "", without_commands(token))) is not None


def _finished(tokens: list[str], sentence: int, start: int, end: int) -> Iterator[Piece]:
    """Yield the piece made of these tokens, if it is mathematical, with the words of its sentence."""
    behind = " ".join(tokens[end : end + _WORDS // 2])
    while start < end and tokens[end - 1] in ("or", "and"):
        end -= 1
    if end < len(tokens) and re.fullmatch(rf"(?=\w{{3}}){UNITS}", tokens[end].strip(".,;:?!")):
        end += 1
    text = " ".join(tokens[start:end]).strip(' .,;:?!"').lstrip("'")
    if re.search(r"[a-zA-Z\d]", text):
        before = " ".join(tokens[max(sentence, start - _WORDS) : start]).rstrip(" ,:(")
        yield Piece(text, before, "" if tokens[end - 1][-1] in ".;:?!" else behind)
