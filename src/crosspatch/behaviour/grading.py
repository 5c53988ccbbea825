r"""Is the final answer of a text right? Reads the answer, compares it with the gold, and never guesses.

Knows nothing of models or problems: a text, a gold and its aliases go in, a verdict comes out.
`unparsed` (no answer could be read) is kept apart from `incorrect` (one was read, and it differs).

Where a mathematical answer is looked for, in this order:
1. the last `\boxed{…}` that is not empty, together with boxes joined to it by `or`, `and` or a comma;
2. the last stated answer, on its line or the next: `**Answer:** …`, `the solutions are …`;
3. gold `x = …`: the last line that says `x = value`, and for several roots as many of the last values as
   there are; failing that, a last line that ends in a bare value;
4. any other gold: the last mathematical piece of the text that could be such an answer.

math-verify reads LaTeX; it is not trusted with the rest. What it is handed is cut to one value without
label, unit or percent sign, and refused where it is long or a tower of powers, so nothing hangs. Numbers and
expressions are compared by their values (exactly; to 1e-3 where a decimal stands for what no short decimal
can say) rather than by `verify`, which rounds absolutely and may simplify for minutes; only intervals and
inequalities are left to `verify`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import math_verify
import math_verify.grader
import math_verify.parser
import sympy

Verdict = Literal["correct", "incorrect", "unparsed"]
Kind = Literal["math", "text"]

# math-verify's own timeouts need signals, so they fail off the main thread; it warns that they are off.
# They are not missed: `_harmless` bounds what it is given.
math_verify.parser.TIMEOUT_WARNING_SHOWN = math_verify.grader.TIMEOUT_WARNING_SHOWN = True
_LATEX = [math_verify.LatexExtractionConfig()]

TOLERANCE = 1e-3
_TAIL = 20_000  # characters read, from the end, where answers stand
_RUNS = 40  # mathematical pieces tried, from the end
_FUNCTIONS = "arcsin|arccos|arctan|sin|cos|tan|sec|csc|cot|sqrt|exp|ln|log|pi"
_UNITS = (
    r"(?:square|cubic|sq\.?|cu\.?)?\s*(?:units?|cm|mm|km|m|in|ft|inch(?:es)?|feet|met(?:er|re)s?|"
    r"centimet(?:er|re)s?|degrees?|radians?|dollars?|euros?|seconds?|hours?|minutes?|s|kg|g)"
)
_UNIT = re.compile(rf"(?<=[\d}}\w])\s+{_UNITS}(?:\^\{{?[23]\}}?)?$|(?<=\d)(?:cm|mm|km)(?:\^\{{?[23]\}}?)?$")
_STATED = re.compile(
    r"\b(?:answer(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s?(?:is|are|would be|must be|:|=)"
    r"|(?:solutions?|roots?)(?:\s+(?:to|of|for)\b[^.\n:=]{0,60})?\s(?:is|are)\b"
    r"|answer\s?$)\s?:?([^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_REASON = re.compile(r"[,;]?\s\b(?:because|since|which|where|so that|when)\b")
_NOTHING = re.compile(
    r"\bno (?:real )?(?:solutions?|roots?|answer)\b|\bundefined\b|\binfinitely many\b", re.IGNORECASE
)
_SAID = re.compile(r"(?<![\w\\])([a-zA-Z]) (?:is equal to|equals|must be|is) (?=[-\d\\(])")


@dataclass(frozen=True)
class Grade:
    """A verdict, and the final answer as it was found in the text: None where none was found."""

    verdict: Verdict
    extracted: str | None


def grade(text: str, gold: str, aliases: Sequence[str] = (), kind: Kind | None = None) -> Grade:
    """Grade a text against the gold or any alias; never raises for any text.

    `kind` says whether the gold is mathematics (the text's final answer is read and compared) or words (they
    have to occur in the text as whole words); None judges by the gold. A mathematical gold that cannot be
    read leaves every text unparsed.
    """
    if (kind or kind_of(gold)) == "text":
        return _grade_words(text, (gold, *aliases))
    golds = [answer for name in (gold, *aliases) if (answer := _read(_tidy(name), constant=_constant(name)))]
    if not golds:
        return Grade("unparsed", None)
    found = _find(text, golds[0])
    if found is None:
        return Grade("unparsed", None)
    extracted, answer = found
    right = answer is not None and any(_same(one, answer) for one in golds)
    return Grade("correct" if right else "incorrect", extracted)


def kind_of(gold: str) -> Kind:
    """Text if a word of three letters or more stands in it that is no LaTeX command, function or unit."""
    words = re.findall(r"[^\W\d_]{3,}", _without_commands(_tidy(gold)))
    return (
        "text" if any(not re.fullmatch(rf"and|square|cubic|{_UNITS}", w.lower()) for w in words) else "math"
    )


# Words


def _grade_words(text: str, golds: Sequence[str]) -> Grade:
    said = f" {_fold(text)} "
    for gold in golds:
        if (folded := _fold(gold)) and f" {folded} " in said:
            return Grade("correct", gold)
    return Grade("incorrect" if said.strip() else "unparsed", None)


def _fold(text: str) -> str:
    """Lower case without accents and punctuation, words parted by one blank; 3.7 and 1,945 stay one word."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    return " ".join(re.findall(r"\d+(?:\.\d+)+|[^\W_]+", plain))


# Values


@dataclass(frozen=True)
class _Value:
    """One value: what stands left of its `=` ("" for nothing), and the sympy object."""

    label: str
    expr: Any
    percent: bool = False

    @property
    def constant(self) -> bool:
        return isinstance(self.expr, sympy.Expr) and not self.expr.free_symbols


@dataclass(frozen=True)
class _Answer:
    """The values of an answer, in any order; `constant`: it holds up to a constant of integration."""

    values: tuple[_Value, ...]
    constant: bool = False

    @property
    def unknown(self) -> str | None:
        """The letter that an answer such as `x = 2` is about."""
        label = self.values[0].label
        return label if re.fullmatch(r"[a-zA-Z]", label) and all(v.constant for v in self.values) else None

    @property
    def numeric(self) -> bool:
        return all(value.constant for value in self.values)


def _constant(text: str) -> bool:
    return re.search(r"\+\s*C\W*$", text) is not None


def _read(text: str, constant: bool = False) -> _Answer | None:
    """All values of a tidied answer, or None where one of them cannot be read."""
    text = text.strip(" \n\t.,;:?!\"'")
    text = re.sub(r"\\in\b", "=", text)
    text = re.sub(r"\\[{}]", "", text)
    if text.startswith("{") and text.endswith("}") and text.count("{") == 1:
        text = text[1:-1]
    values: list[_Value] = []
    for part in _parts(text):
        got = list(_values(part, constant))
        if not got:
            return None
        values += got
    return _Answer(tuple(values), constant) if values else None


def _parts(text: str) -> list[str]:
    """Cut at commas, `or` and `and` that stand outside of brackets."""
    parts, depth, last = [], 0, 0
    for match in re.finditer(r"[(\[{]|[)\]}]|[,;]|\\lor\b|\\vee\b|\b(?:or|and)\b", text):
        token = match.group()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
        elif depth <= 0:
            parts.append(text[last : match.start()])
            last = match.end()
    parts.append(text[last:])
    return [part for part in parts if part.strip()]


def _values(part: str, constant: bool) -> Iterator[_Value]:
    label, value = _cut_label(part.strip())
    if constant:
        value = re.sub(r"\+\s*[CcKk]$", "", value).strip()
    percent = re.search(r"\\?%$", value) is not None
    value = re.sub(r"\\?%$", "", value).strip()
    value = _UNIT.sub("", value).strip()
    for signed in (value.replace(r"\pm", "+"), value.replace(r"\pm", "-")) if r"\pm" in value else (value,):
        expr = _parse(signed.strip().removeprefix("+"))
        if expr is not None:
            yield _Value(label, expr / 100 if percent and isinstance(expr, sympy.Expr) else expr, percent)


def _cut_label(part: str) -> tuple[str, str]:
    """`f(x) = 12/2 = 6` is ("f(x)", "6"); of `16\\pi \\approx 50.27` the exact side counts."""
    exact, *rounded = re.split(r"\\approx|\\simeq|~", part)
    if rounded and "=" not in exact and re.fullmatch(r"\s*[a-zA-Z']+(\([a-z]\))?\s*", exact):
        exact = f"{exact} = {rounded[-1]}"
    label, *sides = (side.strip() for side in exact.split("="))
    if not sides:
        return "", label
    value = sides[-1]
    if re.fullmatch(r"[a-zA-Z]", value) and re.match(r"-?[\d\\]", label):
        label, value = value, label
    label = re.sub(r"_\{?\d+\}?", "", label)
    return re.sub(r"\s|\\prime|[{}^](?=\\prime)", "", label.replace(r"\prime", "'")), value


@lru_cache(maxsize=1024)
def _parse(latex: str) -> Any:
    """One value as a sympy object; plain numbers without math-verify, which costs 20 ms."""
    if match := re.fullmatch(r"(-?)\s?(\d{1,30})(\.\d{1,30})?(?:\s?/\s?(\d{1,30}))?", latex):
        sign, whole, decimals, divisor = match.groups()
        if divisor and (decimals or not int(divisor)):
            return None
        if decimals:
            return sympy.Float(f"{sign}{whole}{decimals}", 30)
        return sympy.Rational(int(f"{sign}{whole}"), int(divisor or 1))
    if not _harmless(latex):
        return None
    try:
        found = math_verify.parse(f"${latex}$", _LATEX, fallback_mode="no_fallback", parsing_timeout=None)
    except Exception:  # a parser of others fed with arbitrary text: whatever it raises means "not readable"
        return None
    return found[0] if found and isinstance(found[0], sympy.Basic | sympy.MatrixBase) else None


def _harmless(latex: str) -> bool:
    """Whether it is safe to have this evaluated, and it is one value at all."""
    if not latex or len(latex) > 200 or not re.search(r"[a-zA-Z\d]", latex):
        return False
    if re.search(r"[^\W\d_]{3}", _without_commands(latex)):
        return False
    if re.search(
        r"\\(?:int|sum|prod|lim|binom)(?![a-zA-Z])|\d\d!|!!|[)}]\s*!|\d{31}|\d\s+\d|\{[^{}]*$", latex
    ):
        return False
    # Each round bracket costs math-verify's parser 60 ms; a power of a power of a power may explode.
    if any(latex.count(bracket) > 12 for bracket in "({[^"):
        return False
    if len(re.findall(r"[)}]\s*\^", latex)) > 2 or re.search(r"\^\s*(?:\{[^{}]*\}|\w)\s*\^", latex):
        return False
    return all(_small_exponent(latex[match.end() :]) for match in re.finditer(r"\^\s*", latex))


def _small_exponent(rest: str) -> bool:
    exponent, depth = rest, 0
    for i, char in enumerate(rest):
        depth += (char == "{") - (char == "}")
        if depth <= 0:
            exponent = rest[: i + 1]
            break
    # One square or cube of a letter may stand up there, as in e^{-x^2}; a number's power may not.
    inner = re.sub(r"[a-zA-Z]\^\{?[23]\}?", "", exponent, count=1)
    return "^" not in inner and len(re.findall(r"\d", inner)) <= 3


# Comparing


def _same(gold: _Answer, said: _Answer) -> bool:
    """Every value said is one of the gold's, and none of the gold's is missing."""
    return all(any(_equal(g, s) for g in gold.values) for s in said.values) and all(
        any(_equal(g, s) for s in said.values) for g in gold.values
    )


def _equal(gold: _Value, said: _Value) -> bool:
    if not _labels_agree(gold.label, said.label):
        return False
    a, b = gold.expr, said.expr
    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)):
        try:
            return bool(math_verify.verify(a, b, timeout_seconds=None))
        except Exception:  # as for its parser: no comparison, no match
            return False
    if _close(a, b):
        return True
    return gold.percent and not said.percent and _close(a * 100, b)


def _labels_agree(gold: str, said: str) -> bool:
    """`x = 2` is no answer for y, nor a second derivative one for the first; other names say nothing."""
    if not gold or not said:
        return True
    if re.fullmatch("[a-zA-Z]", gold):
        return gold == said
    return "'" not in gold or "'" not in said or gold.count("'") == said.count("'")


def _close(gold: sympy.Expr, said: sympy.Expr) -> bool:
    """Equal in value: at three points where there are symbols."""
    turns = range(3 if gold.free_symbols or said.free_symbols else 1)
    return all(_close_at(gold, said, turn) for turn in turns)


def _close_at(gold: sympy.Expr, said: sympy.Expr, turn: int) -> bool:
    a, b = (_number(expr, turn) for expr in (gold, said))
    if a is None or b is None:
        return bool(gold == said)
    decimal = [expr.has(sympy.Float) for expr in (gold, said)]
    rounded = all(decimal) or (any(decimal) and not _short(said if decimal[0] else gold))
    # 1e-12: a third written as 0.333 is off by exactly the tolerance.
    tolerance = TOLERANCE + 1e-12 if rounded else 1e-9
    return abs(a - b) <= tolerance * max(abs(a), 1e-6)


def _short(expr: sympy.Expr) -> bool:
    """Whether decimals can say it exactly, so that others are wrong: x/2 and 3/4, not x/3 nor pi."""
    expr = expr.doit()  # the parser leaves 1/3 as a power of 3
    parts = expr.atoms(sympy.Pow, sympy.Function, sympy.NumberSymbol)
    if any(part.is_number and not part.is_rational for part in parts):
        return False
    return all(10**30 % number.q == 0 for number in expr.atoms(sympy.Rational))


def _number(expr: sympy.Expr, turn: int) -> complex | None:
    """The value with every symbol set to a number of its own, another one at each turn."""
    points = {s: sympy.Rational(sum(map(ord, s.name)) * (turn + 2), 193) for s in expr.free_symbols}
    try:
        value = complex(expr.evalf(20, subs=points))
    except Exception:  # undefined functions, infinities, overflow: no number, so no comparison by value
        return None
    return value if abs(value) < float("inf") else None


# Finding the answer in a text

_Found = tuple[str, _Answer | None]


def _find(text: str, gold: _Answer) -> _Found | None:
    text = text[-_TAIL:]
    boxes, rest = _boxes(text)
    if boxes:
        return _from_box(boxes, gold)
    tidy = _tidy(rest)
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


def _from_box(content: str, gold: _Answer) -> _Found | None:
    tidy = _tidy(content)
    prose = any(_is_prose(token, "=") for token in tidy.split())
    answer = None if prose else _read(tidy, gold.constant)
    if answer is None:
        readable = [a for run in _runs(tidy) if (a := _read(run, gold.constant))]
        answer = readable[-1] if readable else None
    # Words in a box are an answer too, and a wrong one; signs that nobody can read are none.
    if answer is None and not re.search(r"[^\W\d_]{3,}", _without_commands(tidy)):
        return None
    return content, answer


def _stated(tidy: str, gold: _Answer) -> _Found | None:
    for match in reversed(list(_STATED.finditer(tidy))[-20:]):
        line = match.group(1).strip() or tidy[match.end() :].lstrip().partition("\n")[0]
        line = _REASON.split(line)[0].strip()
        runs = list(_runs(line))
        ends = [run for run in runs if line.startswith(run)][:1] + [
            run for run in runs[-1:] if _ends(line, run)
        ]
        read = [(run, answer) for run in ends if (answer := _read(run, gold.constant))]
        for run, answer in read:
            if _plausible(answer, gold):
                return run, answer
        for run, answer in read:
            if not gold.unknown or answer.unknown:
                return run, answer
        if nothing := _NOTHING.search(line):
            return nothing.group(), None
    return None


def _solved(tidy: str, gold: _Answer) -> _Found | None:
    """The last values that the unknown is said to have."""
    said: list[str] = []
    values: list[_Value] = []
    for run in _runs_from_end(tidy):
        if not re.search(rf"(?<![a-zA-Z\\]){gold.unknown}\b|(?<![a-zA-Z\\]){gold.unknown}_", run):
            continue
        answer = _read(run)
        if answer is None or not answer.numeric or not any(v.label == gold.unknown for v in answer.values):
            continue
        about = [v for v in answer.values if v.label in (gold.unknown, "")]
        new = [v for v in about if not any(_close(v.expr, w.expr) for w in values)]
        values += new
        said = [run, *said] if new else said
        if len(values) >= len(gold.values):
            break
    if values:
        return ", ".join(said), _Answer(tuple(values))
    line = tidy.rstrip().rpartition("\n")[2].strip()
    runs = list(_runs(line))
    if not runs or not _ends(line, runs[-1]):
        return None
    before = line[: line.rfind(runs[-1])].rstrip()
    answer = _read(runs[-1])
    if (
        answer
        and _plausible(answer, gold)
        and (not before or re.search(r"\b(?:is|are|equals|be|get)$|:$", before))
    ):
        return runs[-1], answer
    return None


def _last(tidy: str, gold: _Answer) -> _Found | None:
    for run in _runs_from_end(tidy):
        answer = _read(run, gold.constant)
        if answer and _plausible(answer, gold) and (gold.numeric or re.search(r"[\d=+*/^\\-]", run)):
            return run, answer
    return None


def _plausible(answer: _Answer, gold: _Answer) -> bool:
    """Whether it could be an answer to the same question: a number for a number, about the same unknown."""
    if gold.unknown:
        return answer.numeric and {v.label for v in answer.values} <= {gold.unknown, ""}
    return answer.numeric or not gold.numeric


def _ends(line: str, run: str) -> bool:
    return line.rstrip(" .,;:?!").endswith(run.rstrip(" .,;:?!"))


def _runs_from_end(tidy: str) -> Iterator[str]:
    count = 0
    for line in reversed(tidy.split("\n")):
        for run in reversed(list(_runs(line))):
            yield run
            count += 1
            if count >= _RUNS:
                return


def _runs(text: str) -> Iterator[str]:
    """The longest pieces between words of prose, ends of sentences and ends of lines."""
    for line in text.split("\n"):
        run: list[str] = []
        tokens = line.split()
        for token, following in zip(tokens, [*tokens[1:], ""], strict=False):
            if _is_prose(token, following):
                yield from _finished(run)
                run = []
                continue
            run.append(token)
            if token[-1] in ".;:?!" and not token.endswith(r"\;"):
                yield from _finished(run)
                run = []
        yield from _finished(run)


def _is_prose(token: str, following: str) -> bool:
    bare = token.strip(".,;:?!()")
    if bare in ("or", "and", "dx", "dy") or re.fullmatch(r"cm|mm|km", bare):
        return False
    if bare in ("a", "A", "I"):
        return not re.match(r"[=+*/^<>-]|\\(?:approx|in)", following)
    return re.search(r"[^\W\d_]{2,}", _without_commands(token)) is not None


def _finished(run: list[str]) -> Iterator[str]:
    while run and run[-1] in ("or", "and"):
        run = run[:-1]
    while run and run[0].rstrip(",") in ("or", "and"):
        run = run[1:]
    piece = " ".join(run).strip(" .,;:?!\"'")
    if re.search(r"[a-zA-Z\d]", piece):
        yield piece


# One spelling

_CHARACTERS = str.maketrans(
    {
        "\0": " ", "\r": "\n", "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ",
        "√": "sqrt", "∞": r"\infty ", "±": r"\pm ", "≈": r"\approx ", "°": "", "′": "'", "’": "'",
        "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "∈": r"\in ",
        "`": " ", "&": " ", "“": " ", "”": " ",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣⁿ", "0123456789-+xn")
_SPELLINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\\{3,}", " "),
    (r"[^\S\n]+", " "),
    (r" ?\n[\s]*", "\n"),
    (r"\\\\(?=[a-zA-Z]{2})", r"\\"),
    (r"\\\\(?:\[\d+pt\])?", "\n"),
    (r"\\(?:begin|end)\{(?:aligned|align\*?|equation\*?|gather\*?|split)\}", "\n"),
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}", r" \1 "),
    (r"\\(?:left|right|displaystyle|bigg?|Bigg?)(?![a-zA-Z])|\\!", ""),
    (r"\\(?:quad|qquad|therefore|implies|Rightarrow|[,;: ])(?![a-zA-Z])|⇒|→|∴", " "),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\{,\}", ","),
    (r"\\\$|\$|\\[()\[\]]", " "),
    (r"\^\{?\\circ\}?|\\degree\b", ""),
    (r"(?<=[\w)])\*\*(?=[\d(])", "^"),
    (r"\*\*|__", " "),
    (r"(?<![\w)])\*(?=\S)|(?<=\S)\*(?![\w( ])", " "),
    (r"^ ?(?:#+|[-*•]|\d{1,2}[.)]) (?=\S)", ""),
    (r"\b[Ss]tep \d+\b:?", " "),
    (r"(?:\+/-|\+-|plus or minus)", r"\\pm "),
    (r"(?<!\d)(\d{1,9}) (?:out of|in) (\d{1,9})(?![\d.])", r"\1/\2"),
    (r" ?\bpercent\b", "%"),
    (r"(?<![\d.,])(?<!\\\{)(\d{1,3})((?:,\d{3})+)(?![\d])", lambda m: m[1] + m[2].replace(",", "")),
    (rf"(?<![\\a-zA-Z])({_FUNCTIONS})(?![a-zA-Z])", r"\\\1 "),
    (r"\\sqrt ?\(([^()\n]{0,60})\)", r"\\sqrt{\1}"),
    (r"\\sqrt ?(\d+)", r"\\sqrt{\1}"),
    (r"\\log(?![a-zA-Z_])", r"\\ln "),
    (r"\^(-?\d+)", r"^{\1}"),
    (r"\^\(([^()\n]{0,60})\)", r"^{\1}"),
    (r"[^\S\n]+", " "),
]


def _tidy(text: str) -> str:
    """One spelling: LaTeX in place of Unicode and plain words, without delimiters, spacing and markdown."""
    text = re.sub("[⁰¹²³⁴-⁹⁻⁺ˣⁿ]+", lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _SPELLINGS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return _SAID.sub(r"\1 = ", text)


def _without_commands(latex: str) -> str:
    return re.sub(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+", " ", latex)
