"""Supervised fine-tuning (paper, section 3.1) of a model on examples with the Hugging Face Trainer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from crosspatch.config import Finetune
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.models.blocks import keeps_logits
from crosspatch.models.throughput import trains_faster_in_bf16
from crosspatch.tables import TRAINING
from crosspatch.training import processes
from crosspatch.training.batches import Batcher, EpochOrder, filled
from crosspatch.training.examples import Example
from crosspatch.training.log import TrainingLog

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
    settings: Finetune,
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
    log = TrainingLog(run, files.log)
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
            train = filled(train, self.args.per_device_train_batch_size * processes.count())
            self.train_dataset = [vars(example) for example in train]
        validation = filled(validation, self.args.per_device_eval_batch_size * processes.count())
        self.eval_dataset = [vars(example) for example in validation]
        self.validated = sum(len(example.target) for example in validation) / len(validation)

    def _get_train_sampler(self, train_dataset: Any = None) -> Iterable[int]:
        examples = self.train_dataset if train_dataset is None else train_dataset
        return EpochOrder(self, [len(example["input_ids"]) for example in examples[: self.real]], len(examples))

    def compute_loss(self, model: Any, inputs: dict[str, Any], *others: Any, **named: Any) -> Any:
        """The loss of a batch; of validation batches so that their mean is the mean over all tokens."""
        if not model.training and self.validated is not None:
            # The Trainer multiplies by the number of processes, for DDP to average over them.
            named["num_items_in_batch"] = self.validated * len(inputs["input_ids"]) * processes.count()
        return super().compute_loss(model, inputs, *others, **named)


def _arguments(settings: Finetune, folder: Path, run: str, seed: int, *, cpu: bool, resumed: bool) -> TrainingArguments:
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


def _curves(settings: Finetune, folder: Path, checkpoint: str | None) -> list[TrainerCallback]:
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


def _remove_broken_checkpoints(folder: Path) -> None:
    """Remove checkpoints that were not written to their end."""
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            # The Trainer writes this file last.
            json.loads((checkpoint / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
