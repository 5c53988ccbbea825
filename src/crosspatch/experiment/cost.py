"""What an experiment's trainings and texts cost, by rough sums: parameters, tokens, steps, memory and time.

Memory and time follow from tokens and passes by sums that leave out much: they tell hours from minutes and 24 GB from
80, not more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from crosspatch.config import Experiment, Finetune
from crosspatch.models.shapes import Shape
from crosspatch.models.throughput import SHARE, Throughput
from crosspatch.patching.two_stream.key_values import bytes_per_position

# Bytes of a GPU, and how much of it is used: the rest goes to what is passing, and to what nobody can use.
GPU, USED = 80e9, 0.9
# One A100 with 80 GB: bf16 and float32 (TF32) operations a second, bytes a second.
A100 = Throughput({"bfloat16": SHARE * 312e12, "float32": SHARE * 156e12}, SHARE * 2.0e12, True)
# Seconds that the host takes for a block of one model in a pass, whatever its size, and for a scored cell. From sweeps
# with random weights of two shapes, 30 to 252 rows at once, on an H100 (benchmarks/scale.py): with these the four
# times are told within a third. On a CPU, with few rows, a sweep that was tried is told too low by 44 %.
BLOCK, CELL = 1.4e-3, 0.5e-3
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
class Costs:
    """The sums for one kind of model, on this machine and on A100 GPUs."""

    experiment: Experiment
    shape: Shape
    here: Throughput

    def training(
        self, stage: str, what: str, settings: Finetune, lengths: list[int], validation: list[int]
    ) -> StagePlan:
        """What it takes to train on examples of these lengths, in tokens."""
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
        """What `tokens` take in so many passes of a model, with models and the keys of so many rows in memory.

        `cells` are the steps that are scored.
        """
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
            writing_time(self.here, shape, tokens, passes, cells, precision),
            writing_time(A100, shape, tokens, passes, cells, precision),
        )

    def rows(self, wanted: int, longest: int) -> int:
        """Rows of the sweep that run at once: as set, or a power of two that fits beside the weights on few GPUs."""
        settings = self.experiment.patch
        if settings.shard_rows is not None:
            return settings.shard_rows
        row = 2 * longest * bytes_per_position(self.shape.config, self._size)
        weights = self._weights(2)
        if settings.memory_gb is not None:
            room = settings.memory_gb * 1e9
        else:
            room = gpus_for(weights + _FEWEST_ROWS * row) * GPU * USED - weights
        fitting = max(1, min(_MOST_ROWS, wanted, int(room // row)))
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

    def _training_memory(self, settings: Finetune, trained: int, longest: int, *, mixed: bool) -> float:
        """Bytes: weights, gradients, the optimizer's state, and what the backward pass needs of the forward pass."""
        shape, config, lora = self.shape, self.shape.config, settings.method == "lora"
        size = 4 if settings.weights == "float32" else 2
        own = 4 if lora else size
        state = {"adamw": 2 * own, "adamw_8bit": 2, "adafactor": 0.1}[settings.optimizer]
        weights = shape.parameters * (size + (2 if mixed and size == 4 else 0)) + trained * (own + state)
        if lora:
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


def writing_time(machine: Throughput, shape: Shape, tokens: int, passes: int, cells: int, precision: str) -> float:
    """Seconds for `tokens` in so many passes: each reads all weights or multiplies with them, block after block.

    `cells` are the steps that are scored.
    """
    size = 2 if precision == "bfloat16" else 4
    reading = passes * shape.parameters * size / machine.bytes
    multiplying = tokens * 2 * shape.multiplied / machine.operations[precision]
    waiting = passes * shape.config.num_hidden_layers * BLOCK
    return max(reading, multiplying) + waiting + cells * CELL


def gpus_for(memory: float) -> int:
    """How many GPUs with 80 GB hold so many bytes."""
    return max(1, math.ceil(memory / (GPU * USED)))
