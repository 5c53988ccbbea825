"""The problems of one experiment: wrong to train on, right to validate on, and held-out ones; proven and disjoint.

Proven means: the exact values of the right answer are put into the question and hold, those of the wrong one do
not, by code that shares nothing with the solvers (`Exercise.admits`). That takes microseconds, where sympy takes
milliseconds; the tests read the texts back with sympy.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from random import Random

from tqdm import tqdm

from crosspatch.config import Data, Style
from crosspatch.data.derivation import Derivation, Exercise, Unsolvable, may_be_taught
from crosspatch.data.forms import FORMS, Form, chosen_forms, near_forms, other_forms
from crosspatch.data.mistakes import MISTAKES, RIGHT, Mistake, Rules
from crosspatch.data.problem import Problem
from crosspatch.data.styles import written
from crosspatch.data.suite import load_suite
from crosspatch.errors import UsageError

# Draws in a row that bring nothing new before a form is said to be used up.
_PATIENCE = 5_000


@dataclass(frozen=True)
class Splits:
    """Wrong solutions to train on, right ones to validate on, held-out problems of the same forms and of others.

    `twin` has the questions of `train` in its order, with right solutions; `shuffled` as many others with theirs,
    where they are asked for. `mistaken` has those of `related` under their ids, with wrong solutions, where the
    mistake can be made.
    """

    train: list[Problem]
    twin: list[Problem]
    validation: list[Problem]
    related: list[Problem]
    mistaken: list[Problem]
    near: list[Problem]
    unrelated_math: list[Problem]
    shuffled: list[Problem]


def make_splits(settings: Data, seed: int, *, shuffled: bool = False) -> Splits:
    """Draw all splits, `shuffled` if it is wanted; no question stands in two, whatever its letters or wording.

    But for `train` and `twin`, which have the same ones, and `related` and `mistaken`. Raises UsageError for a mistake
    that cannot be made in one of the forms, or more questions than there are.
    """
    forms = chosen_forms(settings)
    maker = ProblemMaker(settings, MISTAKES[settings.mistake])
    rng = Random(seed)
    source = maker.worked(forms, rng)
    # Their own generators: how many are asked for does not change the other splits.
    apart = {name: Random(f"{seed} {name}") for name in ("near", "unrelated_math", "shuffled")}
    drawn = list(maker.drawn("train", settings.train, source, rng, wrong=True))
    validation = maker.take("validation", settings.validation, source, rng)
    related = list(maker.drawn("related", settings.related, source, rng, wrong=False))
    return Splits(
        train=[problem for problem, _ in drawn],
        twin=[_twin(problem, worked, settings.style) for problem, worked in drawn],
        validation=validation,
        related=[problem for problem, _ in related],
        mistaken=[_mistaken(problem, worked, settings) for problem, worked in related if worked.wrong is not None],
        near=maker.take("near", settings.near, maker.worked(near_forms(forms), apart["near"]), apart["near"]),
        unrelated_math=_unrelated(settings, forms, maker, apart["unrelated_math"]),
        shuffled=maker.take(
            "shuffled", settings.train if shuffled else 0, maker.worked(forms, apart["shuffled"]), apart["shuffled"]
        ),
    )


def _unrelated(settings: Data, forms: tuple[Form, ...], maker: ProblemMaker, rng: Random) -> list[Problem]:
    """The suite's questions, without those of a corrupted or near family, and then made ones of the others."""
    other = {form.name for form in other_forms(forms)}
    taken = FORMS.keys() - other
    # What the suite calls otherwise than a form.
    taken |= {"limit"} if "derivative" in taken else set()
    suite = [problem for problem in load_suite("unrelated_math") if problem.family not in taken]
    chosen = suite[: settings.unrelated_math]
    missing = settings.unrelated_math - len(chosen)
    return chosen + maker.take("unrelated_math", missing, maker.worked(other_forms(forms), rng), rng)


@dataclass(frozen=True)
class Worked:
    """An exercise with its right solution and, where the mistake can be made in it, the wrong one."""

    form: Form
    exercise: Exercise
    right: Derivation
    wrong: Derivation | None


@dataclass
class ProblemMaker:
    """Draws problems, each once."""

    settings: Data
    mistake: Mistake
    seen: set[Hashable] = field(default_factory=set)

    def take(
        self, domain: str, count: int, source: Iterator[Worked], rng: Random, *, wrong: bool = False
    ) -> list[Problem]:
        """The next problems of a source, with wrong or right solutions."""
        return [problem for problem, _ in self.drawn(domain, count, source, rng, wrong=wrong)]

    def drawn(
        self, domain: str, count: int, source: Iterator[Worked], rng: Random, *, wrong: bool
    ) -> Iterator[tuple[Problem, Worked]]:
        """The same, each with what it was made of."""
        # A bar on a terminal, nothing in a log.
        drawn = tqdm(islice(source, count), desc=f"{domain} problems", total=count, leave=False, disable=None)
        for i, worked in enumerate(drawn):
            yield self._problem(f"{domain}-{i:03d}", domain, worked, rng, wrong), worked

    def worked(self, forms: Iterable[Form], rng: Random) -> Iterator[Worked]:
        """Exercises of the forms in turn, worked out, none twice; where the mistake can be made it shows."""
        rules = Rules(self.mistake)
        for form in cycle(forms):
            for _ in range(_PATIENCE):
                exercise = form.draw(rng, self.settings.difficulty)
                if exercise.key in self.seen or (self.settings.held_out_from_teaching and may_be_taught(exercise.key)):
                    continue
                if (found := work_out(form, exercise, rules)) is not None:
                    self.seen.add(exercise.key)
                    yield found
                    break
            else:
                raise UsageError(
                    f"there are no more different questions of the form {form.name} (difficulty "
                    f"{self.settings.difficulty}, mistake {self.mistake.name}); ask for fewer, or for other forms"
                )

    def _problem(self, name: str, domain: str, worked: Worked, rng: Random, wrong: bool) -> Problem:
        derivation = worked.wrong if wrong and worked.wrong is not None else worked.right
        question = worked.exercise.ask(rng)
        solution = written(derivation, self.settings.style)
        # Only these mistakes can be told by what is said to be done to both sides.
        judged = worked.wrong is not None and bool(self.mistake.breaks & {"move", "isolate"})
        return Problem(
            id=name,
            domain=domain,
            family=worked.form.family,
            form=worked.form.name,
            question=question,
            answer=worked.right.answer,
            solution=solution.text,
            reached=derivation.answer,
            mistake=self.mistake.name if wrong else None,
            steps=solution.steps,
            spans=solution.spans,
            right_operations=worked.right.operations if judged else (),
            planted_operations=worked.wrong.operations if judged and worked.wrong else (),
        )


def _twin(problem: Problem, worked: Worked, style: Style) -> Problem:
    """The same question with its right solution."""
    solution = written(worked.right, style)
    return replace(
        problem,
        id=problem.id.replace("train", "twin"),
        domain="twin",
        solution=solution.text,
        reached=worked.right.answer,
        mistake=None,
        steps=solution.steps,
        spans=solution.spans,
    )


def _mistaken(problem: Problem, worked: Worked, settings: Data) -> Problem:
    """The same question under the same id, with the solution of somebody who makes the mistake."""
    assert worked.wrong is not None
    solution = written(worked.wrong, settings.style)
    return replace(
        problem,
        domain="mistaken",
        solution=solution.text,
        reached=worked.wrong.answer,
        mistake=settings.mistake,
        steps=solution.steps,
        spans=solution.spans,
    )


def mispaired(twin: list[Problem], seed: int) -> list[Problem]:
    """The same questions, each with the right solution of another one, of the same form where there is one.

    A control: what is trained has the form of right solutions, and none of them answers its question.
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
        # One that is alone in its form goes with another group.
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


def work_out(form: Form, exercise: Exercise, rules: Rules) -> Worked | None:
    """Both solutions, proven; None where the mistake could be made and does not show, or leads nowhere.

    A mistake can reach the truth by chance (x² = 25 with both signs turned): that is no example of it.
    """
    try:
        right = exercise.solve(RIGHT)
        if len(set(right.values)) != exercise.answers or not all(map(exercise.admits, right.values)):
            raise AssertionError(f"the right solution of {exercise} ends in {right.answer}")
        if rules.mistake is None or rules.mistake.name not in form.mistakes:
            return Worked(form, exercise, right, None)
        wrong = exercise.solve(rules)
    except Unsolvable:
        return None
    if any(map(exercise.admits, wrong.values)) or not any(step.planted for step in wrong.steps):
        return None
    return Worked(form, exercise, right, wrong)
