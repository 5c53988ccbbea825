r"""Checks the steps of a worked solution: whether each equation on a separate line follows from the previous one.

An equation follows if it has the same solutions. A text may also treat several roots one by one, each on separate
lines, if it includes them all. Words are not judged. Lines that cannot be read are counted, not guessed. Separate
equations are displayed (`$$…$$`, `\[…\]`, `align`) or on their own line; other equations are among words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import sympy

from crosspatch.grading.equality import ROUNDING
from crosspatch.grading.equations import LONGEST, Equation, Solutions, Unreadable, X, readings, solve, union
from crosspatch.grading.spelling import typed, without_commands

_OR = re.compile(
    r"\\(?:text|textrm|mathrm|mbox)\s?\{\s*(?:or|and)\s*\}|\\(?:lor|vee|land|wedge|qquad|quad)(?![a-zA-Z])"
    r"|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])|;|,(?!\d{3}(?!\d))|,(?<!\d,)"
)
_DISPLAYED = re.compile(
    r"(\$\$.*?(?:\$\$|\Z)|\\\[.*?(?:\\\]|\Z)"
    r"|\\begin\s?\{(?:equation|align|gather|split|eqnarray|multline)[a-z]*\*?\}.*?(?:\\end\s?\{[a-z]*\*?\}|\Z))",
    re.DOTALL,
)
_LINE_BREAK = re.compile(r"\n|\\\\(?![a-zA-Z]{2})(?:\[[^\]\n]{0,10}\])?")
_MARKUP = re.compile(
    r"\$|\\[()\[\]]|\*\*|__|`|&|\\(?:tag|label|begin|end)\s?\{[^{}]*\}|\\(?:therefore|displaystyle)(?![a-zA-Z])|∴"
)
_BOX = re.compile(r"\\f?boxed\s?\{(.*)\}", re.DOTALL)
_BULLET = re.compile(r"\A\s*(?:[>#•]+|[*](?=\s)|\(?\d{1,2}[.)](?=\s))\s*")
_DASH = re.compile(r"\A\s*[-−–](?=\s)")
_THEN = re.compile(
    r"\\(?:Rightarrow|Longrightarrow|implies|iff|Leftrightarrow|to|rightarrow)(?![a-zA-Z])|⇒|⟹|→|⇔|[-=]>"
)
_NEARLY = re.compile(r"\\approx|\\simeq|≈")
_WORD = re.compile(r"(?<![^\W\d_])(?!(?:or|and|sqrt)(?![^\W\d_]))[^\W\d_]{2,}")


@dataclass(frozen=True)
class Gap:
    """A line that does not follow from an earlier line, or an arithmetic claim whose sides differ."""

    before: str
    after: str


@dataclass(frozen=True)
class Steps:
    """The number of steps read and of unreadable equations, and the gaps where a step does not follow."""

    read: int
    unread: int
    gaps: tuple[Gap, ...]


def check_steps(solution: str, equation: Equation | None = None) -> Steps:
    """Check a text's steps; the first step is compared with the question's equation, if there is one."""
    unread, statements = 0, list[Equation]()
    unknown = equation.unknown if equation else ""
    for line in _equation_lines(solution):
        letters = set(re.findall(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])", line))
        unknown = unknown or (letters.pop() if len(letters) == 1 else "")
        try:
            statements += _statements(line, unknown)
        except Unreadable:
            unread += 1
    return Steps(len(statements), unread, tuple(_gaps(statements, equation)))


def _equation_lines(text: str) -> Iterator[str]:
    """Yield each separate equation in order, without delimiters; skip prose and formulae without =."""
    for i, block in enumerate(_DISPLAYED.split(text)):
        displayed, left = i % 2 == 1, ""
        for line in _LINE_BREAK.split(block):
            plain = _BOX.sub(r"\1", _MARKUP.sub(" ", line))
            if not displayed:
                # A dash may be a bullet or a minus, so it is replaced by a sign that is neither.
                plain = _DASH.sub("•", _BULLET.sub("", plain, count=1))
                if _WORD.search(without_commands(typed(plain))):
                    continue
            elif plain.lstrip().startswith("="):
                plain = left + plain
            left = plain.partition("=")[0] if plain.strip() else left
            for part in _THEN.split(plain):
                equation = _NEARLY.split(part)[0].strip(" \t\r.,;:")
                if "=" in equation:
                    yield equation


def _statements(line: str, unknown: str) -> list[Equation]:
    """Return a line's statements in order: `x = 4/2 = 2` has two. Raises Unreadable."""
    if len(line) > LONGEST:
        raise Unreadable
    if unknown:
        line = re.sub(rf"(?<![a-zA-Z\\]){re.escape(unknown)}\s?(?:_\{{?\d\}}?|[₀-₉])", unknown, line)
    parts = [part.strip() for part in _OR.split(line) if part.strip()]
    left = parts[0].partition("=")[0]
    chains = [list(_chain(part if "=" in part else f"{left} = {part}", unknown)) for part in parts]
    if len(chains) == 1:
        return chains[0]
    if not all(equation.unknown for chain in chains for equation in chain):
        raise Unreadable
    together = [[chain[min(turn, len(chain) - 1)] for chain in chains] for turn in range(max(map(len, chains)))]
    return [
        Equation(" or ".join(e.text for e in now), "", unknown, union(e.solutions for e in now)) for now in together
    ]


def _chain(text: str, unknown: str) -> Iterator[Equation]:
    """Yield the equations of `a = b = c`: the only side with the unknown and each other side, else neighbours."""
    sides = [side.strip() for side in text.split("=")]
    read = [readings(side, unknown) for side in sides]
    with_unknown = [i for i, values in enumerate(read) if any(value.has(X) for value in values)]
    if len(with_unknown) == 1:
        pairs = [sorted((with_unknown[0], i)) for i in range(len(sides)) if i != with_unknown[0]]
    else:
        pairs = [[i, i + 1] for i in range(len(sides) - 1)]
    for i, j in pairs:
        solutions = solve(read[i], read[j])
        if not with_unknown and "." in text and all(map(_nearly, read[i], read[j])):
            solutions = None
        yield Equation(sides[i], sides[j], unknown if with_unknown else "", solutions)


def _same(before: Equation, after: Equation) -> bool:
    """Whether two equations have the same solutions; those of the second may be rounded."""
    if before.solutions == after.solutions:
        return True
    if "." not in after.text or not len(before.values) == len(after.values) > 0:
        return False
    return all(any(_nearly(value, said) for said in after.values) for value in before.values)


def _nearly(exact: sympy.Expr, said: sympy.Expr) -> bool:
    """Whether a decimal is rounded from a value without a short exact decimal."""
    if exact == said:
        return True
    if exact.is_Rational and 10**30 % exact.q == 0:
        return False
    return abs(complex(exact) - complex(said)) <= ROUNDING * abs(complex(exact))


def _gaps(statements: list[Equation], equation: Equation | None) -> Iterator[Gap]:
    """Compare the statements in order, and yield the gaps.

    `whole` is the last statement with all solutions, `cases` are the later partial ones by their solutions.
    """
    whole, cases, broken = equation, dict[Solutions, Equation](), False  # broken: there is a gap among the cases
    for statement in statements:
        said, values = statement.solutions, statement.values
        last = list(cases.values())[-1] if cases else None
        unfinished = last if last and not last.finished else None
        continued = [e for e in cases.values() if (e is last or not e.finished) and _same(e, statement)]
        if not statement.unknown:
            # 0 = 5 follows from an equation without solutions.
            if said is not None and not (whole and whole.solutions == frozenset()):
                yield Gap(statement.left, statement.right)
        elif said is None and whole and whole.solutions is not None:
            continue  # an identity, such as 3x + 2x = 5x, holds for every x
        elif whole is None or _same(whole, statement):
            # The next step is compared with the exact value, not with a rounded one.
            whole, cases, broken = whole if whole and whole.solutions != said else statement, {}, False
        elif continued or (values and values < whole.values and not (unfinished and statement.finished)):
            replaced = continued[-1].solutions if continued else said
            cases = {key: e for key, e in cases.items() if key not in (replaced, said)} | {said: statement}
        elif (cases and len(values) > 1 and values <= (_named(cases) | whole.values)) or (
            equation and statement.right and statement.key == equation.key
        ):
            # The cases are combined again, or the question is stated again.
            whole, cases, broken = statement, {}, False
        else:
            yield Gap((unfinished or whole).text, statement.text)
            if len(whole.values) > 1 and len(values) == 1:
                kept = {key: e for key, e in cases.items() if e is not unfinished and key != said}
                cases, broken = kept | {said: statement}, True
            else:
                whole, cases, broken = statement, {}, False
    # An equation must keep all its roots to the end; a word problem may drop a root that is no answer.
    if whole and equation and cases and not broken and _named(cases) != whole.values:
        yield Gap(whole.text, next(iter(cases.values())).text)


def _named(cases: dict[Solutions, Equation]) -> frozenset[sympy.Expr]:
    return union(cases) or frozenset()
