"""The problems of one experiment in disjoint splits: wrong solutions to train on, right ones to validate on, and more.

Each solution is proven: the right answer's exact values satisfy the question, the wrong answer's do not
(`Exercise.admits`). That takes microseconds, where sympy takes milliseconds; the tests check the texts with sympy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from random import Random
from typing import TypeVar

from tqdm import tqdm

from crosspatch.config import Data, Difficulty
from crosspatch.data.derivation import Derivation, Exercise, Unsolvable, may_be_taught
from crosspatch.data.forms import FORMS, Form, chosen_forms, near_forms, other_forms
from crosspatch.data.mistakes import MISTAKES, RIGHT, Broken
from crosspatch.data.problem import Problem
from crosspatch.data.styles import written
from crosspatch.data.suite import load_suite
from crosspatch.errors import UsageError

T = TypeVar("T")

# After so many draws in a row without a new question a form has no more.
_PATIENCE = 5_000


@dataclass(frozen=True)
class Splits:
    """Wrong solutions to train on, right ones to validate on, held-out problems of the same forms and of others.

    `twin` has the questions of `train` in the same order, with right solutions; `shuffled` has as many other questions
    with right solutions, if requested. `mistaken` has the questions of `related` under their ids, with wrong solutions,
    where the mistake is possible.
    """

    train: list[Problem]
    twin: list[Problem]
    validation: list[Problem]
    related: list[Problem]
    mistaken: list[Problem]
    near: list[Problem]
    unrelated_math: list[Problem]
    shuffled: list[Problem]


@dataclass(frozen=True)
class Worked:
    """A question with its right solution and, if the mistake is possible in it, the wrong one."""

    form: Form
    question: str
    right: Derivation
    wrong: Derivation | None


def make_splits(settings: Data, seed: int, *, shuffled: bool = False) -> Splits:
    """Draw all splits, `shuffled` if requested; no question is in two of them, even with other letters or wording.

    Exceptions are `train` and `twin`, which have the same questions, and `related` and `mistaken`. Raises UsageError
    for a mistake that one of the forms does not allow, or more questions than there are.
    """
    forms, maker = chosen_forms(settings), ProblemMaker(settings)
    source = maker.worked(forms, Random(seed))

    def separate(name: str, count: int, forms: tuple[Form, ...]) -> list[Problem]:
        # A separate generator: the size of this split does not change the others.
        return maker.take(name, count, maker.worked(forms, Random(f"{seed} {name}")))

    train = maker.drawn("train", settings.train, source)
    validation = maker.take("validation", settings.validation, source)
    related = maker.drawn("related", settings.related, source)
    near = separate("near", settings.near, near_forms(forms))
    unrelated = _suite_questions(settings, other_forms(forms))
    more = separate("unrelated_math", settings.unrelated_math - len(unrelated), other_forms(forms))
    return Splits(
        train=maker.problems("train", train, wrong=True),
        twin=maker.problems("twin", train),
        validation=validation,
        related=maker.problems("related", related),
        mistaken=[
            replace(problem, domain="mistaken")
            for problem, worked in zip(maker.problems("related", related, wrong=True), related, strict=True)
            if worked.wrong is not None
        ],
        near=near,
        unrelated_math=unrelated + more,
        shuffled=separate("shuffled", settings.train if shuffled else 0, forms),
    )


def _suite_questions(settings: Data, other: tuple[Form, ...]) -> list[Problem]:
    """The first questions of the suite whose families are those of the other forms."""
    taken = FORMS.keys() - {form.name for form in other}
    # Limits, a family of the suite, are close to derivatives.
    taken |= {"limit"} if "derivative" in taken else set()
    suite = [problem for problem in load_suite("unrelated_math") if problem.family not in taken]
    return suite[: settings.unrelated_math]


@dataclass
class ProblemMaker:
    """Draws problems, each question once."""

    settings: Data
    seen: set[Hashable] = field(default_factory=set)

    def take(self, domain: str, count: int, source: Iterator[Worked]) -> list[Problem]:
        """The next problems of a source, with right solutions."""
        return self.problems(domain, self.drawn(domain, count, source))

    def drawn(self, domain: str, count: int, source: Iterator[Worked]) -> list[Worked]:
        """The next questions of a source, with a progress bar on a terminal."""
        return list(tqdm(islice(source, count), f"{domain} problems", total=count, leave=False, disable=None))

    def worked(self, forms: Iterable[Form], rng: Random) -> Iterator[Worked]:
        """Questions of the forms in turn, each once, with their solutions; a mistake that is possible shows."""
        settings, broken = self.settings, MISTAKES[self.settings.mistake]

        def accepted(form: Form, exercise: Exercise) -> Worked | None:
            if exercise.key in self.seen or (settings.held_out_from_teaching and may_be_taught(exercise.key)):
                return None
            solutions = work_out(exercise, broken if settings.mistake in form.mistakes else RIGHT)
            if solutions is None:
                return None
            self.seen.add(exercise.key)
            return Worked(form, exercise.ask(rng), *solutions)

        kind = f"of difficulty {settings.difficulty} with the mistake {settings.mistake}"
        return in_turn(forms, rng, settings.difficulty, accepted, f"{kind}; ask for fewer, or for other forms")

    def problems(self, domain: str, questions: Iterable[Worked], *, wrong: bool = False) -> list[Problem]:
        """The questions as problems of a split, with wrong solutions if possible, or with right ones."""
        return [self._problem(f"{domain}-{i:03d}", domain, worked, wrong) for i, worked in enumerate(questions)]

    def _problem(self, name: str, domain: str, worked: Worked, wrong: bool) -> Problem:
        derivation = worked.wrong if wrong and worked.wrong is not None else worked.right
        solution = written(derivation, self.settings.style)
        # Only these mistakes show in the operations on both sides.
        shows = worked.wrong is not None and bool(MISTAKES[self.settings.mistake] & {"move", "isolate"})
        return Problem(
            id=name,
            domain=domain,
            family=worked.form.family,
            form=worked.form.name,
            question=worked.question,
            answer=worked.right.answer,
            solution=solution.text,
            reached=derivation.answer,
            mistake=self.settings.mistake if wrong else None,
            steps=solution.steps,
            spans=solution.spans,
            right_operations=worked.right.operations if shows else (),
            planted_operations=worked.wrong.operations if shows and worked.wrong else (),
        )


def in_turn(
    forms: Iterable[Form],
    rng: Random,
    difficulty: Difficulty,
    accepted: Callable[[Form, Exercise], T | None],
    hint: str,
) -> Iterator[T]:
    """Draw exercises of the forms in turn and yield the results of `accepted`; if it returns None, draw again.

    Raises UsageError, whose message ends with the hint, if a form has no more questions.
    """
    for form in cycle(forms):
        for _ in range(_PATIENCE):
            if (made := accepted(form, form.draw(rng, difficulty))) is not None:
                yield made
                break
        else:
            raise UsageError(f"there are no more different questions of the form {form.name} {hint}")


def work_out(exercise: Exercise, broken: Broken) -> tuple[Derivation, Derivation | None] | None:
    """The right solution and the one with broken rules, if any, both proven; None if the mistake does not show.

    A mistake can lead to the right answer by chance (x² = 25 with both signs changed), or to no answer.
    """
    try:
        right = exercise.solve(RIGHT)
        if len(set(right.values)) != exercise.answers or not all(map(exercise.admits, right.values)):
            raise AssertionError(f"the right solution of {exercise} ends in {right.answer}")
        if not broken:
            return right, None
        wrong = exercise.solve(broken)
    except Unsolvable:
        return None
    if any(map(exercise.admits, wrong.values)) or not any(step.planted for step in wrong.steps):
        return None
    return right, wrong


def mispaired(twin: list[Problem], seed: int) -> list[Problem]:
    """The same questions, each with the right solution of another one, of the same form if there is one.

    A control: the training texts look like right solutions, and none of them answers its question.
    Raises UsageError for fewer than two questions.
    """
    if len(twin) < 2:
        raise UsageError(f"the control mispaired needs two training problems or more, got data.train = {len(twin)}")
    rng = Random(f"{seed} mispaired")
    by_form: dict[str, list[Problem]] = {}
    for problem in twin:
        by_form.setdefault(problem.form, []).append(problem)
    groups = [group for group in by_form.values() if len(group) > 1]
    if alone := [problem for group in by_form.values() if len(group) == 1 for problem in group]:
        # The only problem of its form joins another group.
        groups = [*groups[:-1], [*(groups[-1] if groups else []), *alone]]
    giver: dict[str, Problem] = {}
    for group in groups:
        rng.shuffle(group)
        giver |= {problem.id: other for problem, other in zip(group, [*group[1:], group[0]], strict=True)}
    return [
        replace(
            giver[problem.id],
            id=problem.id.replace("twin", "mispaired"),
            domain="mispaired",
            question=problem.question,
            answer=problem.answer,
            right_operations=problem.right_operations,
            planted_operations=problem.planted_operations,
        )
        for problem in twin
    ]
