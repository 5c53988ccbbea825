"""Supervised fine-tuning (paper, section 3.1) with the Hugging Face Trainer: of children, and of what is taught.

Knows no experiment and no run directory: it gets a model, examples and a folder for its checkpoints.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from crosspatch.config import Training
from crosspatch.errors import CrosspatchError, TrainingDiverged, UsageError
from crosspatch.models.forward import keeps_logits
from crosspatch.models.machine import trains_faster_in_bf16
from crosspatch.tables import TRAINING
from crosspatch.training import processes
from crosspatch.training.examples import IGNORED, Example

_OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit", "adafactor": "adafactor"}


# What a full disk raises: from Python, from safetensors, from polars, from torch.save (inline_container).
_WRITE_ERRORS = (OSError, SafetensorError, pl.exceptions.PolarsError, RuntimeError)


@dataclass(frozen=True)
class Files:
    """Where a training leaves things: checkpoints while it runs, its log, and curves for TensorBoard if wanted."""

    checkpoints: Path
    log: Path
    tensorboard: Path


@dataclass(frozen=True)
class Trained:
    """The log of this run (see tables.TRAINING); `weights` where the model, being spread, does not have them all."""

    log: pl.DataFrame
    weights: dict[str, torch.Tensor] | None = None


def finetune(
    model: Any,
    train: list[Example],
    validation: list[Example],
    settings: Training,
    files: Files,
    *,
    run: str = "corrupted",
    seed: int = 0,
    device: str | None = None,
) -> Trained:
    """Train `model` in place, all of it or its adapter, on `device` (None: where it is).

    Several processes that were started together share each step (see `processes`), so that steps and losses are what
    they are with one; all of them have to call this.

    Goes on from the last checkpoint in `files.checkpoints`, if there is one; whoever has saved the finished model
    removes them. The loss is on completions, averaged over the tokens of an effective batch. Raises TrainingDiverged
    as soon as a loss or a gradient is no number; log and checkpoints until then are kept. Raises UsageError where
    several processes cannot share the loss of this model.
    """
    cpu = model.device.type == "cpu" if device is None else device == "cpu"
    if processes.leads():
        _remove_broken_checkpoints(files.checkpoints)
    processes.wait(cpu=cpu)
    checkpoint = get_last_checkpoint(str(files.checkpoints)) if files.checkpoints.is_dir() else None
    log = _Log(run, files.log)
    arguments = _arguments(settings, files.checkpoints, run, seed, cpu=cpu, resumed=checkpoint is not None)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=[vars(example) for example in train],
        eval_dataset=[vars(example) for example in validation],
        data_collator=Batcher(keeps_logits(model)),
        callbacks=[log, *_curves(settings, files.tensorboard, checkpoint)],
    )
    trainer.together = settings.batch_size
    trainer.fill(train, validation)
    trainer.remove_callback(PrinterCallback)  # it prints every row of the log
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except _WRITE_ERRORS as error:
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        # What was half-written takes room that may be what is missing.
        _remove_broken_checkpoints(files.checkpoints)
        why = str(error).partition("\n")[0]
        raise CrosspatchError(
            f"training of {run} stopped at step {trainer.state.global_step}, as something could not be written: {why}; "
            "what was saved until then is kept, and the same command goes on from there"
        ) from error
    finally:
        log.close()
        if "wandb" in settings.report_to and processes.leads():
            _end_wandb_run(failed=trainer.state.global_step < trainer.state.max_steps)
    model.eval()
    # Where the weights are spread over processes no model has them all.
    spread = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    return Trained(TRAINING.read(files.log).filter(run=run), spread)


class _Trainer(Trainer):  # type: ignore[misc]
    """Takes batches of `together` examples in an order of ours, of the first `real` ones; what fills up comes last.

    `validated` is the mean number of tokens that the loss is taken on in a validation example; None: the mean over
    batches has to do.
    """

    together = 1
    real = 0
    validated: float | None = None

    def fill(self, train: list[Example], validation: list[Example]) -> None:
        """Fill up the last batches, so that losses are means over tokens, however many processes share them.

        Raises UsageError for several processes and a model that takes its loss over each batch by itself.
        """
        self.real = len(train)
        if not self.model_accepts_loss_kwargs:
            if processes.count() > 1:
                raise UsageError(
                    f"{type(self.model).__name__} takes its loss over each batch by itself, so several processes "
                    "cannot share a step; train it with one"
                )
            return
        if processes.count() > 1:
            filled = _filled(train, self.args.per_device_train_batch_size * processes.count())
            self.train_dataset = [vars(example) for example in filled]
        filled = _filled(validation, self.args.per_device_eval_batch_size * processes.count())
        self.eval_dataset = [vars(example) for example in filled]
        self.validated = sum(len(example.target) for example in filled) / len(filled)

    def _get_train_sampler(self, train_dataset: Any = None) -> Iterable[int]:
        examples = self.train_dataset if train_dataset is None else train_dataset
        return _Order(self, [len(example["input_ids"]) for example in examples[: self.real]], len(examples))

    def compute_loss(self, model: Any, inputs: dict[str, Any], *others: Any, **named: Any) -> Any:
        """The loss of a batch; of validation batches so that their mean is the mean over all tokens."""
        if not model.training and self.validated is not None:
            # The Trainer multiplies by the number of processes, for DDP to average over them.
            named["num_items_in_batch"] = self.validated * len(inputs["input_ids"]) * processes.count()
        return super().compute_loss(model, inputs, *others, **named)


def _filled(examples: list[Example], multiple: int) -> list[Example]:
    """The examples and some without a loss, so that batches are full and each process has as many.

    Otherwise accelerate would repeat examples, and a mean over batches would not be one over examples.
    """
    return [*examples, *[Example([0], [IGNORED])] * (-len(examples) % multiple)]


# Batches are put together of the examples of so many: the more, the more alike are their lengths.
_MIXED = 50


@dataclass(frozen=True)
class _Order:
    """The order of the examples in an epoch, by the training's seed and the epoch alone.

    Examples of like length make a batch, which saves a tenth of the tokens or more, but the batches of a step are
    drawn at random: steps of one kind of examples each would pull the model to and fro. The Trainer's own order has
    neither, and comes from the global generator: resumed in the middle of an epoch it would be another.
    """

    trainer: _Trainer
    lengths: list[int]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        # Whole epochs are whole numbers here, also after a resumption.
        epoch, size = int(self.trainer.state.epoch or 0), self.trainer.together
        rng = Random(f"{self.trainer.args.seed} {epoch}")
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        whole = len(order) // size * size
        batches = []
        for start in range(0, whole, size * _MIXED):
            like = sorted(order[start : min(start + size * _MIXED, whole)], key=self.lengths.__getitem__)
            batches += [like[i : i + size] for i in range(0, len(like), size)]
        rng.shuffle(batches)
        # What does not fill a batch comes last, and what it is filled with.
        return iter([i for batch in batches for i in batch] + order[whole:] + [*range(len(order), self.count)])


@dataclass(frozen=True)
class Batcher:
    """Makes batches of examples; `short` asks the model for the logits of completions only.

    Filled up at their left ends, so that the completions stand at the right and the prompts' logits, which no loss
    is taken on, are left out: of a large vocabulary they are a fifth of the work.
    """

    short: bool

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, Any]:
        """A batch of B rows [B, T]; labels [B, K] for the last K positions, K = T where all logits are wanted."""
        length = max(len(example["input_ids"]) for example in examples)

        def padded(values: list[int], filler: int) -> list[int]:
            return [filler] * (length - len(values)) + values

        labels = torch.tensor([padded(example["labels"], IGNORED) for example in examples])
        batch = {
            "input_ids": torch.tensor([padded(example["input_ids"], 0) for example in examples]),  # any token fills
            "attention_mask": torch.tensor([padded([1] * len(example["input_ids"]), 0) for example in examples]),
            "position_ids": torch.tensor([padded(list(range(len(e["input_ids"]))), 0) for e in examples]),
        }
        if not self.short:
            return {**batch, "labels": labels}
        first = int((labels != IGNORED).any(dim=0).int().argmax())
        # One more: the logits before the first token of a completion are what it is told from.
        kept = length - max(first - 1, 0)
        return {**batch, "labels": labels[:, -kept:], "logits_to_keep": kept}


def _arguments(settings: Training, folder: Path, run: str, seed: int, *, cpu: bool, resumed: bool) -> TrainingArguments:
    device = "cpu" if cpu else "cuda"
    at_once, accumulated = processes.shared(settings)
    arguments = TrainingArguments(
        output_dir=str(folder),
        run_name=run,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=accumulated,
        learning_rate=settings.learning_rate,
        adam_epsilon=settings.epsilon,
        weight_decay=settings.weight_decay,
        optim=_OPTIMIZERS[settings.optimizer],
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        bf16=settings.precision == "bf16" or (settings.precision == "auto" and trains_faster_in_bf16(device)),
        use_cpu=cpu,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show the last good loss in place of a NaN
        eval_strategy="steps",
        eval_steps=settings.eval_every,
        eval_on_start=not resumed,
        save_strategy="epoch" if settings.checkpoint_every is None else "steps",
        save_steps=settings.checkpoint_every or 500,
        save_total_limit=1,
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not cpu,
        report_to=[name for name in settings.report_to if name != "tensorboard"] or "none",
        disable_tqdm=True,  # the bar is ours
        seed=seed,
        data_seed=seed,
    )
    # One process trains on one device: several visible GPUs would silently multiply the effective batch.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _curves(settings: Training, folder: Path, checkpoint: str | None) -> list[TrainerCallback]:
    """TensorBoard's curves go beside the log: checkpoints, where the Trainer puts them, are removed at the end.

    What an interrupted training wrote after its last checkpoint is shown no more.
    """
    if "tensorboard" not in settings.report_to or not processes.leads():
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    again = None if checkpoint is None else int(checkpoint.rpartition("-")[2]) + 1
    return [TensorBoardCallback(SummaryWriter(log_dir=str(folder), purge_step=again))]


def _end_wandb_run(*, failed: bool) -> None:
    """So that the next training is a run of its own."""
    import wandb

    wandb.finish(exit_code=int(failed))


class _Log(TrainerCallback):  # type: ignore[misc]
    """Shows the progress, keeps the log on disk, and stops the training when a loss or a gradient is no number."""

    def __init__(self, run: str, path: Path) -> None:
        self.run = run
        self.path = path
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not processes.leads():
            return
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=f"training {self.run}", unit="step")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.close()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)
        if state.global_step >= state.max_steps:
            # The divergence that counts is the finished model's.
            control.should_evaluate = True
            control.should_save = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The finished model is saved by whoever asked for it; a last checkpoint would be thrown away at once.
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if processes.leads():
            self.write(state.log_history)
        # The weights of a step whose gradient is no number are none; they must not become a checkpoint.
        for name, words in (("loss", "loss"), ("eval_loss", "eval loss"), ("grad_norm", "gradient's norm")):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise TrainingDiverged(
                    f"training of {self.run} stopped at step {state.global_step}: the {words} is {value}; the log "
                    f"until there is in {self.path}. Try a smaller learning rate, in a new folder"
                )

    def write(self, history: list[dict[str, Any]]) -> None:
        """Put the log so far on disk, after a divergence too, and its last values into the bar."""
        log = log_frame(self.run, history)
        others = TRAINING.read(self.path).filter(pl.col("run") != self.run)
        TRAINING.write(pl.concat([others, log]), self.path)
        if self.bar is not None:
            shown = {"train_loss": "loss", "eval_loss": "held out", "learning_rate": "rate", "grad_norm": "gradient"}
            latest = {name: log[column].drop_nulls() for column, name in shown.items()}
            self.bar.set_postfix({name: f"{values[-1]:.3g}" for name, values in latest.items() if len(values)})

    def close(self) -> None:
        """End the progress bar's line."""
        if self.bar is not None:
            self.bar.close()


def log_frame(run: str, history: list[dict[str, Any]]) -> pl.DataFrame:
    """The Trainer's log as a table; the summary row at the end of training has no losses and is left out."""
    return TRAINING.frame(
        {
            "run": run,
            "step": row["step"],
            "epoch": float(row["epoch"]),
            "train_loss": row.get("loss"),
            "eval_loss": row.get("eval_loss"),
            "learning_rate": row.get("learning_rate"),
            "grad_norm": row.get("grad_norm"),
        }
        for row in history
        if "loss" in row or "eval_loss" in row
    )


def _remove_broken_checkpoints(folder: Path) -> None:
    """Remove checkpoints that were not written to their end."""
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            # The Trainer writes this file last.
            json.loads((checkpoint / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
