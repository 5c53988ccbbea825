"""What an experiment will cost, told before anything is loaded: parameters, tokens, steps, memory and rough time.

Weights are counted on the meta device, tokens by the tokenizer where it is at hand. Memory and time follow from
these by the sums below, which leave out much: they tell hours from minutes and 24 GB from 80, not more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from crosspatch.config import DOMAINS, OWN_CONTROLS, Experiment, Training
from crosspatch.data.lessons import drills, taught_problems
from crosspatch.data.problem import Problem
from crosspatch.data.splits import Splits
from crosspatch.errors import UsageError
from crosspatch.experiment.children import Child, children
from crosspatch.experiment.problems import experiment_splits, given_prompts, suite_questions, training_problems
from crosspatch.experiment.search import check_search, variants
from crosspatch.experiment.teaching import check_teaching
from crosspatch.experiment.work import prompt_format
from crosspatch.models.machine import A100, GPU, SHARE, USED, Machine, gpus_for, this_machine
from crosspatch.models.shapes import Shape

# Our texts on SmolLM2's tokenizer (measured: 2.2 to 2.6 characters a token) and a chat template's own tokens.
_CHARACTERS, _TEMPLATE = 2.4, 30
# Rows (a patch after a prompt) that are to fit beside the weights, or another GPU is taken; and the most that gain.
_FEWEST_ROWS, _MOST_ROWS = 32, 256


@dataclass(frozen=True)
class StagePlan:
    """What one model or patch grid of a stage takes.

    `memory` is in GB (10⁹ bytes), `seconds` are on this machine and on A100 GPUs with 80 GB, `gpus` of them where one
    does not hold it. These work one after the other, block by block, so more of them are no faster.
    """

    stage: str
    what: str
    parameters: int
    trained: int
    tokens: int
    steps: int | None
    memory: float
    seconds: float
    seconds_a100: float

    @property
    def gpus(self) -> int:
        """A100 GPUs with 80 GB that hold it."""
        return gpus_for(self.memory * 1e9)

    @property
    def gpu_hours(self) -> float:
        """Hours on an A100, times how many there have to be."""
        return self.gpus * self.seconds_a100 / 3600


@dataclass(frozen=True)
class Plan:
    """All stages, and what has to be said about the numbers."""

    rows: list[StagePlan]
    notes: list[str]


@dataclass(frozen=True)
class _Counter:
    """Counts tokens: by a tokenizer, or from characters."""

    question_length: Callable[[str], int]
    text_length: Callable[[str], int]

    def question(self, problem: Problem) -> int:
        return self.question_length(problem.question)

    def example(self, problem: Problem) -> int:
        return self.question(problem) + self.text_length(problem.solution or "")


@dataclass(frozen=True)
class _Planner:
    """The stages of one experiment on one kind of model."""

    experiment: Experiment
    shape: Shape
    count: _Counter
    here: Machine
    a100: Machine

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
        validation = [self.count.example(problem) for problem in trained.get("validation", ())]
        for child in made:
            settings = child.settings
            lengths = [self.count.example(problem) for problem in trained[child.split][: settings.examples]]
            if max(lengths) > settings.max_tokens and not self.shape.kept:
                raise UsageError(
                    f"an example has {max(lengths)} tokens, more than max_tokens = {settings.max_tokens}; it would be "
                    "cut, so raise that limit"
                )
            yield self._training(
                stage, f"{child.name}, {settings.method}", settings, settings.method, lengths, validation
            )

    def teaching(self) -> Iterator[StagePlan]:
        """Rows for the model's own answers, for the lessons, and for what is mended."""
        settings, seed = self.experiment.teach, self.experiment.seed
        own, each = settings.unrelated_math + settings.general, settings.answer_tokens
        question = self.count.question_length("What is the capital of France?")
        at_once = min(own, 32)
        if own:
            what = f"{own} answers of its own"
            passes = math.ceil(own / at_once) * each
            yield self._written("teach", what, question + each, own * each, passes, at_once, models=1)
        problems = taught_problems(self.experiment.data, settings.problems, seed)
        sheets = drills(self.experiment.data.difficulty, settings.drills, seed)
        lengths = [
            self.count.question_length(lesson.question) + self.count.text_length(lesson.completion)
            for lesson in [*problems, *sheets]
        ]
        typical = sum(lengths) // len(lengths)
        answers = [question + each] * own
        whole = settings.method == "cut"
        method = "full" if whole else settings.method
        yield self._training(
            "teach", f"taught, {settings.method}", settings, method, [*lengths, *answers], answers[:32]
        )
        if whole:
            mending = settings.model_copy(update={"epochs": 1})
            yield self._training("teach", "mending", mending, "lora", [typical] * settings.mending, answers[:32])

    def _training(
        self, stage: str, what: str, settings: Training, method: str, lengths: list[int], validation: list[int]
    ) -> StagePlan:
        """What it takes to train on examples of these lengths, in tokens."""
        shape = self.shape
        steps = math.ceil(len(lengths) / (settings.batch_size * settings.accumulation)) * settings.epochs
        tokens = sum(lengths) * settings.epochs
        evaluated = sum(validation) * (steps // settings.eval_every + 2)
        trained = shape.linear_sides * settings.lora_rank if method == "lora" else shape.parameters
        # Forward 2 operations a weight, backward 4, or 2 where the weights themselves get no gradient.
        each = (4 if method == "lora" else 6) + (2 if settings.recompute else 0)
        operations = shape.multiplied * (each * tokens + 2 * evaluated)
        here, there = (
            "bfloat16" if settings.precision == "bf16" or (settings.precision == "auto" and faster) else "float32"
            for faster in (self.here.bf16_is_faster, self.a100.bf16_is_faster)
        )
        longest = max([*lengths, *validation])
        return StagePlan(
            stage,
            what,
            shape.parameters,
            trained,
            tokens,
            steps,
            _training_memory(shape, settings, method, trained, longest, mixed="bfloat16" in (here, there)) / 1e9,
            self.here.training(operations, here),
            self.a100.training(operations, there),
        )

    def answers(self, stage: str, models: int) -> Iterator[StagePlan]:
        """A row for all questions to so many models."""
        asked = [problem for split in self.questions.values() for problem in split]
        if asked:
            settings = self.experiment.generation
            at_once = min(len(asked), settings.batch_size)
            tokens = len(asked) * settings.max_new_tokens * models
            longest = max(map(self.count.question, asked)) + settings.max_new_tokens
            what = f"{len(asked)} questions to {models} models"
            passes = math.ceil(len(asked) / at_once) * settings.max_new_tokens * models
            yield self._written(stage, what, longest, tokens, passes, at_once)

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
        return int(settings.screen or (1 if settings.reach is not None else len(settings.patches) or grid))

    def patches(self) -> Iterator[StagePlan]:
        """Rows for all prompts and patches, and for their controls: at most, as if no two rows wrote the same text."""
        settings, each = self.experiment.patch, self.experiment.generation.max_new_tokens
        if not self.patched:
            return
        texts = len(self.patched) * self.grid * len(settings.directions)
        both = " in both directions" if settings.direction == "both" else ""
        what = f"{len(self.patched)} prompts, {self.grid} patches each{both}"
        longest = max(map(self.count.question, self.patched)) + each
        rows = self.rows(longest)
        # Two readings of each text, and of a patched row on average half of the layers.
        tokens = int(2.5 * texts * each) + 2 * len(self.patched) * each
        passes = 2 * each * math.ceil(texts / rows)
        what += f", {rows} rows at once"
        yield self._written("patch", what, longest, tokens, passes, 2 * rows, cells=texts * each)
        moved = self.experiment.moved_controls
        if moved and settings.persistence == "transient":
            # Each text is read at once by the clean model and by what is moved; all its steps are patched beside it.
            models = 2 + sum(name not in OWN_CONTROLS for name in moved)
            read = int(texts * (models * (longest - each) + each * (models + 0.5 * len(moved))))
            passes, cells = texts * (models + 1), texts * each * len(moved)
            yield self._written("controls", ", ".join(moved), longest, read, passes, 2, models, cells)

    def rows(self, longest: int) -> int:
        """Rows of the sweep that run at once: as set, or a power of two that fits beside the weights on few GPUs."""
        from crosspatch.patching.two_stream.key_values import bytes_per_position

        settings, size = self.experiment.patch, self._size
        if settings.shard_rows is not None:
            return settings.shard_rows
        row = 2 * longest * bytes_per_position(self.shape.config, size)
        weights = self._weights(2)
        if settings.memory_gb is not None:
            room = settings.memory_gb * 1e9
        else:
            room = gpus_for(weights + _FEWEST_ROWS * row) * GPU * USED - weights
        fitting = max(1, min(_MOST_ROWS, len(self.patched) * self.grid, int(room // row)))
        return 1 << (fitting.bit_length() - 1)

    @property
    def _size(self) -> int:
        """Bytes of a number."""
        return 4 if self.experiment.models.dtype == "float32" else 2

    def _weights(self, models: int) -> float:
        """Bytes of the weights of so many models; adapters stand on the clean model's."""
        settings, shape = self.experiment.models, self.shape
        linear = {"8bit": 1.0, "4bit": 0.56}.get(settings.quantization or "", self._size)
        one = shape.parameters * linear
        adapted = self.experiment.makes_the_child and self.experiment.finetune.method == "lora" and settings.share_base
        if not adapted:
            return models * one
        return one + (models - 1) * shape.linear_sides * self.experiment.finetune.lora_rank * self._size

    def _written(
        self,
        stage: str,
        what: str,
        longest: int,
        tokens: int,
        passes: int,
        caches: int,
        models: int = 2,
        cells: int = 0,
    ) -> StagePlan:
        """What `tokens` take in so many passes of a model, with models and the keys of so many rows in memory.

        `cells` are the steps that are scored.
        """
        from crosspatch.patching.two_stream.key_values import bytes_per_position

        shape = self.shape
        precision = "float32" if self.experiment.models.dtype == "float32" else "bfloat16"
        caching = caches * longest * bytes_per_position(shape.config, self._size)
        return StagePlan(
            stage,
            what,
            models * shape.parameters,
            0,
            tokens,
            None,
            (self._weights(models) + caching) / 1e9,
            self.here.writing(shape, tokens, passes, cells, precision),
            self.a100.writing(shape, tokens, passes, cells, precision),
        )


def plan(experiment: Experiment, command: Literal["run", "search", "teach"] = "run") -> Plan:
    """The plan of a command. Raises UsageError like the command itself, as far as no weights are needed."""
    if command == "search":
        check_search(experiment)
    elif command == "teach":
        check_teaching(experiment)
    shape = Shape.of(experiment.models.clean)
    _check(experiment, shape)
    planner = _Planner(experiment, shape, _counter(experiment, shape), this_machine(), A100)
    price = experiment.execution.gpu_price
    notes = [
        f"A100 GPUs with {GPU / 1e9:.0f} GB, of which {USED:.0%} is used; ${price:g} for a GPU-hour "
        "(execution.gpu_price). More workers (execution.workers) take the time's share each, and as many GPUs each",
        f"rough: times by {SHARE:.0%} of what a device does at best, as if no answer ended early and no two "
        "patches wrote the same text; GB are 10⁹ bytes",
    ]
    if shape.kept:
        notes.append(
            f"{experiment.models.clean}: configuration as it is kept in crosspatch, tokens counted as "
            f"{_CHARACTERS} characters each"
        )
    if command == "search":
        made = [variant.child for variant in variants(experiment)]
        return Plan([*planner.children("search", made), *planner.answers("search", 1 + len(made))], notes)
    if command == "teach":
        return Plan([*planner.teaching(), *planner.answers("teach", 2)], notes)
    made = children(experiment)
    models = 2 + len(experiment.controls)
    return Plan([*planner.children("finetune", made), *planner.answers("evaluate", models), *planner.patches()], notes)


def _check(experiment: Experiment, shape: Shape) -> None:
    from crosspatch.experiment.checks import check_patches
    from crosspatch.models.pair import numbered

    numbered("layer", experiment.patch.layers, shape.config.num_hidden_layers)
    check_patches(experiment.patch, shape.config.num_hidden_layers, shape.config.num_attention_heads)


def _training_memory(
    shape: Shape, settings: Training, method: str, trained: int, longest: int, *, mixed: bool
) -> float:
    """Bytes: weights, gradients, the optimizer's state, and what the backward pass needs of the forward pass."""
    config = shape.config
    size = 4 if settings.weights == "float32" else 2
    own = 4 if method == "lora" else size
    state = {"adamw": 2 * own, "adamw_8bit": 2, "adafactor": 0.1}[settings.optimizer]
    weights = shape.parameters * (size + (2 if mixed and size == 4 else 0)) + trained * (own + state)
    if method == "lora":
        weights += trained * own
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    # Numbers that a block keeps for its backward pass: norms, projections, attention, the MLP's parts.
    block = 8 * config.hidden_size + 6 * heads * width + 4 * inner
    positions, number = settings.batch_size * longest, 2 if mixed else 4
    if settings.recompute:
        kept = config.num_hidden_layers * config.hidden_size * 4 + block * number
    else:
        kept = config.num_hidden_layers * block * number
    # Logits, their float32 copy, and its gradient.
    logits = config.vocab_size * (number + 8)
    return weights + positions * (kept + logits)


def _counter(experiment: Experiment, shape: Shape) -> _Counter:
    if shape.kept:
        return _Counter(
            lambda text: _TEMPLATE + math.ceil(len(text) / _CHARACTERS),
            lambda text: 1 + math.ceil(len(text) / _CHARACTERS),
        )
    from crosspatch.models.loading import Checkpoint

    tokenizer = Checkpoint.named(experiment.models.clean).tokenizer()
    prompts = prompt_format(experiment.models, tokenizer, tokenizer)
    return _Counter(lambda text: len(prompts.encode(text)), lambda text: len(prompts.encode_completion(text)))
