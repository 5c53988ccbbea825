"""The cost of an experiment before anything is loaded: parameters, tokens, steps, memory and time of each stage.

Weights are counted on the meta device, tokens by the tokenizer if it is available. Memory and time are rough estimates:
enough to tell hours from minutes, and 24 GB from 80.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from crosspatch.config import DOMAINS, OWN_CONTROLS, Experiment, Finetune
from crosspatch.data.lessons import ANSWER_TOKENS, arithmetic_exercises, taught_problems
from crosspatch.data.problem import Problem
from crosspatch.errors import UsageError
from crosspatch.experiment.checks import check_patches, check_search, check_teaching
from crosspatch.experiment.children import Child, children
from crosspatch.experiment.patching import listed
from crosspatch.experiment.problems import all_problems
from crosspatch.experiment.run_context import chosen_problems
from crosspatch.experiment.search import variants
from crosspatch.models.blocks import head_count
from crosspatch.models.chat import pair_format
from crosspatch.models.loading import Checkpoint
from crosspatch.models.shapes import Shape
from crosspatch.models.throughput import SHARE, Throughput, this_machine
from crosspatch.patching.batches import rows_at_once
from crosspatch.patching.two_stream.key_values import bytes_per_position

# Characters a token of our texts on SmolLM2's tokenizer (measured: 2.2 to 2.6), and the tokens of a chat template.
_CHARACTERS, _TEMPLATE = 2.4, 30
# Dollars for a GPU-hour.
DOLLARS = 2.0
# Bytes of a GPU, and the fraction of them that is used: the rest is for temporary tensors and fragmentation.
GPU, USED = 80e9, 0.9
# One A100 with 80 GB: bf16 and float32 (TF32) operations a second, bytes a second.
A100 = Throughput({"bfloat16": SHARE * 312e12, "float32": SHARE * 156e12}, SHARE * 2.0e12, True)
# Seconds that the host takes for a block of one model in a pass, whatever its size, and for a scored cell. From sweeps
# with random weights of two shapes, 30 to 252 rows at once, on an H100 (benchmarks/scale.py), whose four times they
# predict within a third. On a CPU, with few rows, the prediction for one sweep was 44 % too low.
BLOCK, CELL = 1.4e-3, 0.5e-3
# Rows (a patch after a prompt) that have to fit in memory with the weights; otherwise another GPU is added.
_FEWEST_ROWS = 32
# Questions that the model writes or answers at once when it is taught.
_LESSONS_AT_ONCE = 32


@dataclass(frozen=True)
class StagePlan:
    """The cost of one model or patch grid of a stage.

    `memory` is in GB (10⁹ bytes), `seconds` are on this machine, `seconds_a100` on A100 GPUs with 80 GB. Where one GPU
    is too small, `gpus` of them work one after the other, block by block, so more GPUs are no faster.
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
        """The number of A100 GPUs with 80 GB that hold it."""
        return gpus_for(self.memory * 1e9)

    @property
    def gpu_hours(self) -> float:
        """GPU hours on A100s."""
        return self.gpus * self.seconds_a100 / 3600


@dataclass(frozen=True)
class Plan:
    """All stages, and the assumptions behind the numbers."""

    rows: list[StagePlan]
    notes: list[str]


def plan(experiment: Experiment, command: Literal["run", "search", "teach"] = "run") -> Plan:
    """The plan of a command. Raises UsageError for settings that cannot run; judges and packages are not checked."""
    if command == "search":
        check_search(experiment)
    elif command == "teach":
        check_teaching(experiment)
    shape = Shape.of(experiment.models.clean)
    check_patches(experiment.patch, shape.config)
    planner = _Planner(experiment, shape, this_machine(), _counter(experiment, shape))
    notes = [
        f"A100 GPUs with {GPU / 1e9:.0f} GB, of which {USED:.0%} is used; ${DOLLARS:g} for a GPU-hour. "
        "With N workers (execution.workers) the time is divided by N, and each worker needs as many GPUs",
        f"rough: times assume {SHARE:.0%} of a device's peak, that no answer ends early, and that no two patches "
        "write the same text; GB are 10⁹ bytes",
    ]
    if shape.kept:
        notes.append(
            f"{experiment.models.clean}: configuration from crosspatch, tokens counted as {_CHARACTERS} characters each"
        )
    if command == "search":
        made = variants(experiment)
        rows = [*planner.children("search", made), *planner.answers("search", 1 + len(made))]
    elif command == "teach":
        rows = [*planner.teaching(), *planner.answers("teach", 2)]
    else:
        made, models = children(experiment), 2 + len(experiment.controls)
        sweep, others = list(planner.patches()), planner.children("references", made[1:])
        corrupted, answers = planner.children("finetune", made[:1]), planner.answers("evaluate", models)
        rows = [*corrupted, *sweep[:1], *others, *answers, *sweep[1:]]
    return Plan(rows, notes)


@dataclass(frozen=True)
class _Planner:
    """The stages of one experiment on one kind of model.

    `count` gives the tokens of a question as a prompt, and with a solution those of the training example.
    """

    experiment: Experiment
    shape: Shape
    here: Throughput
    count: Callable[..., int]

    @cached_property
    def problems(self) -> dict[str, list[Problem]]:
        """The problems by split, as the data stage makes them."""
        return all_problems(self.experiment)

    def children(self, stage: str, made: list[Child]) -> Iterator[StagePlan]:
        """A row for each child that a stage trains."""
        validation = self._lengths(self.problems.get("validation", ()))
        for child in made:
            settings = child.settings
            lengths = self._lengths(self.problems[child.split][: settings.examples])
            if max(lengths) > settings.max_tokens and not self.shape.kept:
                raise UsageError(
                    f"an example has {max(lengths)} tokens, more than max_tokens = {settings.max_tokens}; it would be "
                    "truncated, so raise that limit"
                )
            yield self.training(stage, f"{child.name}, {settings.method}", settings, lengths, validation)

    def _lengths(self, problems: Sequence[Problem]) -> list[int]:
        return [self.count(problem.question, problem.solution or "") for problem in problems]

    def teaching(self) -> Iterator[StagePlan]:
        """Rows for the model's own answers, for training on the lessons, and for training the cut adapter."""
        settings, training, seed = self.experiment.teach, self.experiment.teaching, self.experiment.seed
        own, each = settings.unrelated_math + settings.general, ANSWER_TOKENS
        answer = self.count("What is the capital of France?") + each
        if own:
            at_once = min(own, _LESSONS_AT_ONCE)
            passes = math.ceil(own / at_once) * each
            yield self.writing("teach", f"{own} own answers", answer, own * each, passes, at_once, models=1)
        problems = taught_problems(self.experiment.data, settings.problems, seed)
        sheets = arithmetic_exercises(self.experiment.data.difficulty, settings.arithmetic_exercises, seed)
        lengths = [self.count(lesson.question, lesson.completion) for lesson in [*problems, *sheets]]
        answers = [answer] * own
        yield self.training("teach", f"taught, {settings.method}", training, [*lengths, *answers], answers[:32])
        if settings.method == "cut":
            finetuning = training.model_copy(update={"epochs": 1, "method": "lora"})
            typical = sum(lengths) // len(lengths)
            yield self.training(
                "teach", "adapter fine-tuning", finetuning, [typical] * settings.adapter_finetuning, answers[:32]
            )

    def answers(self, stage: str, models: int) -> Iterator[StagePlan]:
        """A row for all questions to `models` models."""
        asked = [problem for domain in DOMAINS for problem in self.problems.get(domain, [])]
        if asked:
            settings = self.experiment.generation
            at_once, new_tokens = min(len(asked), settings.batch_size), settings.max_new_tokens * models
            longest = max(self.count(problem.question) for problem in asked) + settings.max_new_tokens
            passes = math.ceil(len(asked) / at_once) * new_tokens
            what = f"{len(asked)} questions to {models} models"
            yield self.writing(stage, what, longest, len(asked) * new_tokens, passes, at_once)

    def patches(self) -> Iterator[StagePlan]:
        """Rows for the sweep and its controls: at most, as if no two patches wrote the same text."""
        settings, each = self.experiment.patch, self.experiment.generation.max_new_tokens
        patched = chosen_problems(self.problems, {domain: getattr(settings, domain) for domain in DOMAINS})
        if not patched:
            return
        grid = settings.attribution or (1 if settings.target_fraction else len(listed(settings, self.shape.config)))
        texts = len(patched) * grid * len(settings.directions)
        longest = max(self.count(problem.question) for problem in patched) + each
        rows = self.rows(len(patched) * grid, longest)
        both = " in both directions" if settings.direction == "both" else ""
        what = f"{len(patched)} prompts, {grid} patches each{both}, {rows} rows at once"
        # Both models read each text, and a patched row runs on average half of the layers.
        tokens = int(2.5 * texts * each) + 2 * len(patched) * each
        passes = 2 * each * math.ceil(texts / rows)
        yield self.writing("patch", what, longest, tokens, passes, 2 * rows, cells=texts * each)
        moved = self.experiment.patched_controls
        if moved and settings.persistence == "transient":
            # The clean model and each control's model read a text in one pass, and all patched steps in the same pass.
            models = 2 + sum(name not in OWN_CONTROLS for name in moved)
            read = int(texts * (models * (longest - each) + each * (models + 0.5 * len(moved))))
            passes, cells = texts * (models + 1), texts * each * len(moved)
            yield self.writing("controls", ", ".join(moved), longest, read, passes, 2, models, cells)

    def training(
        self, stage: str, what: str, settings: Finetune, lengths: list[int], validation: list[int]
    ) -> StagePlan:
        """The cost of training on examples of these lengths, in tokens."""
        shape, lora = self.shape, settings.method == "lora"
        steps = math.ceil(len(lengths) / (settings.batch_size * settings.accumulation)) * settings.epochs
        tokens = sum(lengths) * settings.epochs
        evaluated = sum(validation) * (steps // settings.eval_every + 2)
        trained = shape.linear_sides * settings.lora_rank if lora else shape.parameters
        # Forward 2 operations a weight, backward 4, or 2 where the weights themselves get no gradient.
        each = (4 if lora else 6) + (2 if settings.recompute else 0)
        operations = shape.multiplied * (each * tokens + 2 * evaluated)
        here, there = (
            "bfloat16" if settings.precision == "bf16" or (settings.precision == "auto" and faster) else "float32"
            for faster in (self.here.bf16_is_faster, A100.bf16_is_faster)
        )
        longest, mixed = max([*lengths, *validation]), "bfloat16" in (here, there)
        return StagePlan(
            stage,
            what,
            shape.parameters,
            trained,
            tokens,
            steps,
            self._training_memory(settings, trained, longest, mixed=mixed) / 1e9,
            operations / self.here.operations[here],
            operations / A100.operations[there],
        )

    def writing(
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
        """The cost of `tokens` in `passes` passes of a model, with the models and the KV caches of `caches` rows in
        memory.

        `cells` are the steps that are scored.
        """
        shape = self.shape
        memory = self._weights(models) + caches * longest * bytes_per_position(shape.config, self._dtype.itemsize)
        precision = "float32" if self._dtype == torch.float32 else "bfloat16"
        here, there = (writing_time(machine, shape, tokens, passes, cells, precision) for machine in (self.here, A100))
        return StagePlan(stage, what, models * shape.parameters, 0, tokens, None, memory / 1e9, here, there)

    def rows(self, wanted: int, longest: int) -> int:
        """The sweep's batch size in rows: as set, or the largest power of two that fits on as few GPUs as possible."""
        settings, config = self.experiment.patch, self.shape.config
        if settings.shard_rows is not None:
            return settings.shard_rows
        memory_gb = settings.memory_gb
        if memory_gb is None:
            weights, row = self._weights(2), 2 * longest * bytes_per_position(config, self._dtype.itemsize)
            memory_gb = (gpus_for(weights + _FEWEST_ROWS * row) * GPU * USED - weights) / 1e9
        fitting = rows_at_once(config, self._dtype, torch.device("cpu"), longest, memory_gb)
        return min(fitting, 1 << (wanted.bit_length() - 1))

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.experiment.models.dtype)

    def _weights(self, models: int) -> float:
        """Bytes of the weights of `models` models; adapters use the clean model's."""
        settings, shape, size = self.experiment.models, self.shape, self._dtype.itemsize
        one = shape.parameters * {"8bit": 1.0, "4bit": 0.56}.get(settings.quantization or "", size)
        adapted = self.experiment.makes_the_child and self.experiment.finetune.method == "lora" and settings.share_base
        child = shape.linear_sides * self.experiment.finetune.lora_rank * size if adapted else one
        return one + (models - 1) * child

    def _training_memory(self, settings: Finetune, trained: int, longest: int, *, mixed: bool) -> float:
        """Bytes: weights, gradients, the optimizer's state, and what the backward pass needs of the forward pass."""
        shape, config, lora = self.shape, self.shape.config, settings.method == "lora"
        size = 4 if settings.weights == "float32" else 2
        own = 4 if lora else size
        state = {"adamw": 2 * own, "adamw_8bit": 2, "adafactor": 0.1}[settings.optimizer]
        weights = shape.parameters * (size + (2 if mixed and size == 4 else 0)) + trained * (own + state)
        if lora:
            weights += trained * own
        heads, width = head_count(config) or 1, config.hidden_size
        head_width = getattr(config, "head_dim", None) or width // heads
        inner = getattr(config, "intermediate_size", None) or 4 * width
        # Numbers that a block keeps for its backward pass: norms, projections, attention, the MLP's parts.
        block = 8 * width + 6 * heads * head_width + 4 * inner
        number = 2 if mixed else 4
        if settings.recompute:
            kept = config.num_hidden_layers * width * 4 + block * number
        else:
            kept = config.num_hidden_layers * block * number
        # Logits, their float32 copy, and its gradient.
        logits = config.vocab_size * (number + 8)
        return weights + settings.batch_size * longest * (kept + logits)


def writing_time(machine: Throughput, shape: Shape, tokens: int, passes: int, cells: int, precision: str) -> float:
    """Seconds for `tokens` in `passes` passes: each reads all weights or multiplies with them, block after block.

    `cells` are the steps that are scored.
    """
    size = 2 if precision == "bfloat16" else 4
    reading = passes * shape.parameters * size / machine.bytes
    multiplying = tokens * 2 * shape.multiplied / machine.operations[precision]
    waiting = passes * shape.config.num_hidden_layers * BLOCK
    return max(reading, multiplying) + waiting + cells * CELL


def gpus_for(memory: float) -> int:
    """How many GPUs with 80 GB hold `memory` bytes."""
    return max(1, math.ceil(memory / (GPU * USED)))


def _counter(experiment: Experiment, shape: Shape) -> Callable[..., int]:
    """Tokens are counted by the model's tokenizer, or from characters for models whose configuration ships here."""
    if shape.kept:

        def by_characters(question: str, solution: str | None = None) -> int:
            length = _TEMPLATE + math.ceil(len(question) / _CHARACTERS)
            return length if solution is None else length + 1 + math.ceil(len(solution) / _CHARACTERS)

        return by_characters
    tokenizer = Checkpoint.named(experiment.models.clean).tokenizer()
    prompts = pair_format(tokenizer, tokenizer, experiment.models.chat_template, system=experiment.models.system)

    def by_tokenizer(question: str, solution: str | None = None) -> int:
        length = len(prompts.encode(question))
        return length if solution is None else length + len(prompts.encode_completion(solution))

    return by_tokenizer
