"""What an experiment will train, write and patch, stage by stage, before anything is loaded; `cost` says what it takes.

Weights are counted on the meta device, tokens by the tokenizer where it is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from crosspatch.config import DOMAINS, OWN_CONTROLS, Experiment
from crosspatch.data.lessons import ANSWER_TOKENS, arithmetic_exercises, taught_problems
from crosspatch.data.problem import Problem
from crosspatch.data.splits import Splits
from crosspatch.errors import UsageError
from crosspatch.experiment.checks import check_patches, check_search, check_teaching
from crosspatch.experiment.children import Child, children
from crosspatch.experiment.cost import GPU, USED, Costs, StagePlan
from crosspatch.experiment.problems import experiment_splits, given_prompts, suite_questions, training_problems
from crosspatch.experiment.run_context import prompt_format
from crosspatch.experiment.search import variants
from crosspatch.models.compatibility import numbered
from crosspatch.models.loading import Checkpoint
from crosspatch.models.shapes import Shape
from crosspatch.models.throughput import SHARE, this_machine

# Our texts on SmolLM2's tokenizer (measured: 2.2 to 2.6 characters a token) and a chat template's own tokens.
_CHARACTERS, _TEMPLATE = 2.4, 30
# The price of a GPU-hour by which costs are told.
DOLLARS = 2.0
# The tokens of a question as a prompt, and with a solution those of the training example.
Count = Callable[..., int]


@dataclass(frozen=True)
class Plan:
    """All stages, and what has to be said about the numbers."""

    rows: list[StagePlan]
    notes: list[str]


@dataclass(frozen=True)
class _Planner:
    """The stages of one experiment on one kind of model."""

    experiment: Experiment
    shape: Shape
    costs: Costs
    count: Count

    @cached_property
    def splits(self) -> Splits:
        """The problems as the data stage makes them."""
        return experiment_splits(self.experiment)

    @cached_property
    def questions(self) -> dict[str, list[Problem]]:
        """What is asked, by domain."""
        splits = self.splits
        made = {"related": splits.related, "near": splits.near, "unrelated_math": splits.unrelated_math}
        return made | suite_questions(self.experiment)

    def children(self, stage: str, made: list[Child]) -> Iterator[StagePlan]:
        """A row for each child that a stage trains."""
        experiment = self.experiment
        trained = training_problems(experiment, self.splits)
        validation = self._lengths(trained.get("validation", ()))
        for child in made:
            settings = child.settings
            lengths = self._lengths(trained[child.split][: settings.examples])
            if max(lengths) > settings.max_tokens and not self.shape.kept:
                raise UsageError(
                    f"an example has {max(lengths)} tokens, more than max_tokens = {settings.max_tokens}; it would be "
                    "cut, so raise that limit"
                )
            yield self.costs.training(stage, f"{child.name}, {settings.method}", settings, lengths, validation)

    def _lengths(self, problems: Sequence[Problem]) -> list[int]:
        return [self.count(problem.question, problem.solution or "") for problem in problems]

    def teaching(self) -> Iterator[StagePlan]:
        """Rows for the model's own answers, for the lessons, and for the adapter's fine-tuning."""
        settings, training, seed = self.experiment.teach, self.experiment.teaching, self.experiment.seed
        own, each = settings.unrelated_math + settings.general, ANSWER_TOKENS
        question = self.count("What is the capital of France?")
        at_once = min(own, 32)
        if own:
            what = f"{own} answers of its own"
            passes = math.ceil(own / at_once) * each
            yield self.costs.writing("teach", what, question + each, own * each, passes, at_once, models=1)
        problems = taught_problems(self.experiment.data, settings.problems, seed)
        sheets = arithmetic_exercises(self.experiment.data.difficulty, settings.arithmetic_exercises, seed)
        lengths = [self.count(lesson.question, lesson.completion) for lesson in [*problems, *sheets]]
        typical = sum(lengths) // len(lengths)
        answers = [question + each] * own
        what = f"taught, {settings.method}"
        yield self.costs.training("teach", what, training, [*lengths, *answers], answers[:32])
        if settings.method == "cut":
            finetuning = training.model_copy(update={"epochs": 1, "method": "lora"})
            yield self.costs.training(
                "teach", "adapter fine-tuning", finetuning, [typical] * settings.adapter_finetuning, answers[:32]
            )

    def answers(self, stage: str, models: int) -> Iterator[StagePlan]:
        """A row for all questions to so many models."""
        asked = [problem for split in self.questions.values() for problem in split]
        if asked:
            settings = self.experiment.generation
            at_once = min(len(asked), settings.batch_size)
            tokens = len(asked) * settings.max_new_tokens * models
            longest = max(self.count(problem.question) for problem in asked) + settings.max_new_tokens
            what = f"{len(asked)} questions to {models} models"
            passes = math.ceil(len(asked) / at_once) * settings.max_new_tokens * models
            yield self.costs.writing(stage, what, longest, tokens, passes, at_once)

    @cached_property
    def patched(self) -> list[Problem]:
        """The prompts that are patched."""
        settings = self.experiment.patch
        chosen = [problem for domain in DOMAINS for problem in self.questions[domain][: getattr(settings, domain)]]
        return given_prompts(self.experiment) or chosen

    @cached_property
    def grid(self) -> int:
        """How many patches there are for each prompt and direction."""
        settings, config = self.experiment.patch, self.shape.config
        layers = config.num_hidden_layers if settings.layers == "all" else len(settings.layers)
        places = len(settings.component or ("resid_post",)) if not settings.patches else 1
        heads = config.num_attention_heads if settings.heads == "all" else len(settings.heads)
        grid = layers * (places + (heads - 1 if "head" in (settings.component or ()) else 0))
        return int(
            settings.attribution or (1 if settings.target_fraction is not None else len(settings.patches) or grid)
        )

    def patches(self) -> Iterator[StagePlan]:
        """Rows for all prompts and patches, and for their controls: at most, as if no two rows wrote the same text."""
        settings, each = self.experiment.patch, self.experiment.generation.max_new_tokens
        if not self.patched:
            return
        texts = len(self.patched) * self.grid * len(settings.directions)
        both = " in both directions" if settings.direction == "both" else ""
        what = f"{len(self.patched)} prompts, {self.grid} patches each{both}"
        longest = max(self.count(problem.question) for problem in self.patched) + each
        rows = self.costs.rows(len(self.patched) * self.grid, longest)
        # Two readings of each text, and of a patched row on average half of the layers.
        tokens = int(2.5 * texts * each) + 2 * len(self.patched) * each
        passes = 2 * each * math.ceil(texts / rows)
        what += f", {rows} rows at once"
        yield self.costs.writing("patch", what, longest, tokens, passes, 2 * rows, cells=texts * each)
        moved = self.experiment.moved_controls
        if moved and settings.persistence == "transient":
            # Each text is read at once by the clean model and by what is moved; all its steps are patched beside it.
            models = 2 + sum(name not in OWN_CONTROLS for name in moved)
            read = int(texts * (models * (longest - each) + each * (models + 0.5 * len(moved))))
            passes, cells = texts * (models + 1), texts * each * len(moved)
            yield self.costs.writing("controls", ", ".join(moved), longest, read, passes, 2, models, cells)


def plan(experiment: Experiment, command: Literal["run", "search", "teach"] = "run") -> Plan:
    """The plan of a command. Raises UsageError like the command itself, as far as no weights are needed."""
    if command == "search":
        check_search(experiment)
    elif command == "teach":
        check_teaching(experiment)
    shape = Shape.of(experiment.models.clean)
    numbered("layer", experiment.patch.layers, shape.config.num_hidden_layers)
    check_patches(experiment.patch, shape.config.num_hidden_layers, shape.config.num_attention_heads)
    costs = Costs(experiment, shape, this_machine())
    planner = _Planner(experiment, shape, costs, _counter(experiment, shape))
    notes = [
        f"A100 GPUs with {GPU / 1e9:.0f} GB, of which {USED:.0%} is used; ${DOLLARS:g} for a GPU-hour. "
        "More workers (execution.workers) take the time's share each, and as many GPUs each",
        f"rough: times by {SHARE:.0%} of what a device does at best, as if no answer ended early and no two "
        "patches wrote the same text; GB are 10⁹ bytes",
    ]
    if shape.kept:
        notes.append(
            f"{experiment.models.clean}: configuration as it is kept in crosspatch, tokens counted as "
            f"{_CHARACTERS} characters each"
        )
    if command == "search":
        made = variants(experiment)
        return Plan([*planner.children("search", made), *planner.answers("search", 1 + len(made))], notes)
    if command == "teach":
        return Plan([*planner.teaching(), *planner.answers("teach", 2)], notes)
    made = children(experiment)
    models = 2 + len(experiment.controls)
    return Plan([*planner.children("finetune", made), *planner.answers("evaluate", models), *planner.patches()], notes)


def _counter(experiment: Experiment, shape: Shape) -> Count:
    """By the model's tokenizer; of a model whose configuration is kept here, from characters."""
    if shape.kept:

        def by_characters(question: str, solution: str | None = None) -> int:
            length = _TEMPLATE + math.ceil(len(question) / _CHARACTERS)
            return length if solution is None else length + 1 + math.ceil(len(solution) / _CHARACTERS)

        return by_characters
    tokenizer = Checkpoint.named(experiment.models.clean).tokenizer()
    prompts = prompt_format(experiment.models, tokenizer, tokenizer)

    def by_tokenizer(question: str, solution: str | None = None) -> int:
        length = len(prompts.encode(question))
        return length if solution is None else length + len(prompts.encode_completion(solution))

    return by_tokenizer
