"""Generates disjoint splits for one experiment: wrong solutions for training, right ones for validation, and more.

Each solution is verified: the right answer's exact values satisfy the question, and the wrong answer's do not
(`Exercise.admits`). This takes microseconds, where sympy takes milliseconds; the tests check the texts with sympy.
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

# After this many draws in a row without a new question, a form counts as exhausted.
_PATIENCE = 5_000


@dataclass(frozen=True)
class Splits:
    """Wrong solutions for training, right ones for validation, and held-out problems of the same and other forms.

    `twin` has the questions of `train` in the same order, with right solutions; `shuffled` has as many other questions
    with right solutions, if requested. `mistaken` has the questions of `related` under the same ids, with wrong
    solutions if the mistake is possible.
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
    """A question with its right solution and, if the mistake is possible in it, its wrong solution."""

    form: Form
    question: str
    right: Derivation
    wrong: Derivation | None


def make_splits(settings: Data, seed: int, *, shuffled: bool = False) -> Splits:
    """Generate all splits, `shuffled` if requested; splits share no question, even with other letters or wording.

    Exceptions: `train` and `twin` have the same questions, and so do `related` and `mistaken`. Raises UsageError if a
    form does not allow the mistake, or if there are too few different questions.
    """
    forms, maker = chosen_forms(settings), ProblemMaker(settings)
    source = maker.worked(forms, Random(seed))

    def separate(name: str, count: int, forms: tuple[Form, ...]) -> list[Problem]:
        # A separate generator, so that this split's size does not change the other splits.
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
    """Return the suite's first questions from the families of the other forms."""
    taken = FORMS.keys() - {form.name for form in other}
    # The suite's family of limits is too similar to derivatives.
    taken |= {"limit"} if "derivative" in taken else set()
    suite = [problem for problem in load_suite("unrelated_math") if problem.family not in taken]
    return suite[: settings.unrelated_math]


@dataclass
class ProblemMaker:
    """Generates problems, and never repeats a question."""

    settings: Data
    seen: set[Hashable] = field(default_factory=set)

    def take(self, domain: str, count: int, source: Iterator[Worked]) -> list[Problem]:
        """Return the next problems of a source, with right solutions."""
        return self.problems(domain, self.drawn(domain, count, source))

    def drawn(self, domain: str, count: int, source: Iterator[Worked]) -> list[Worked]:
        """Return the next questions of a source, with a progress bar on a terminal."""
        return list(tqdm(islice(source, count), f"{domain} problems", total=count, leave=False, disable=None))

    def worked(self, forms: Iterable[Form], rng: Random) -> Iterator[Worked]:
        """Yield solved questions, cycling through the forms; a question is skipped if its mistake would not show."""
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
        """Convert questions to problems of a split, with right solutions or, if possible and `wrong`, wrong ones."""
        return [self._problem(f"{domain}-{i:03d}", domain, worked, wrong) for i, worked in enumerate(questions)]

    def _problem(self, name: str, domain: str, worked: Worked, wrong: bool) -> Problem:
        derivation = worked.wrong if wrong and worked.wrong is not None else worked.right
        solution = written(derivation, self.settings.style)
        # Only for these mistakes do the operations on both sides show the mistake.
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
    """Generate exercises, cycling through the forms, and yield each result of `accepted`; None generates again.

    Raises UsageError, with a message that ends with the hint, if a form has no more questions.
    """
    for form in cycle(forms):
        for _ in range(_PATIENCE):
            if (made := accepted(form, form.draw(rng, difficulty))) is not None:
                yield made
                break
        else:
            raise UsageError(f"there are no more different questions of the form {form.name} {hint}")


def work_out(exercise: Exercise, broken: Broken) -> tuple[Derivation, Derivation | None] | None:
    """Return the right solution and the mistaken one, if any, both verified; None if the mistake does not show.

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
    """Return the same questions, each with the right solution of another question, of the same form if possible.

    A control: the training texts look like right solutions, but none answers its question.
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
