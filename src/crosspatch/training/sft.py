"""Supervised fine-tuning (paper, section 3.1) with the Hugging Face Trainer, from a saved base to a saved model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from crosspatch.config import Finetune
from crosspatch.errors import CrosspatchError, UsageError
from crosspatch.models.adapter import with_adapter
from crosspatch.models.blocks import keeps_logits
from crosspatch.models.loading import Checkpoint
from crosspatch.models.saving import save_adapter, save_model
from crosspatch.models.throughput import trains_faster_in_bf16
from crosspatch.tables import TRAINING
from crosspatch.training import processes
from crosspatch.training.batches import Batcher, EpochOrder, filled
from crosspatch.training.examples import Example
from crosspatch.training.log import TrainingLog

_OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit", "adafactor": "adafactor"}
# Errors of a full disk: from Python, safetensors, polars, and torch.save (a RuntimeError).
_WRITE_ERRORS = (OSError, SafetensorError, pl.exceptions.PolarsError, RuntimeError)


def train_checkpoint(
    *,
    name: str,
    base: Path,
    base_name: str,
    base_seed: int,
    root: Path,
    train: list[Example],
    validation: list[Example],
    settings: Finetune,
    seed: int,
    device: str,
    begin: Callable[[Any], Any] | None = None,
) -> None:
    """Train the model in the folder `base`; all processes must call this, and the leading one saves the result.

    The model is saved as models/`name` in the run directory `root`; an adapter's folder names `base_name` as its base.
    `base_seed` is the seed of random models. `begin` converts the base to the model to train; without `begin`,
    `settings.method` decides.
    """
    checkpoint = Checkpoint.named(str(base))
    # With several processes, each has a GPU, and the Trainer moves the model there.
    model = checkpoint.model(settings.weights, device if processes.count() == 1 else "cpu", base_seed)
    if settings.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        # The outputs of a frozen embedding need gradients, since checkpointing cannot recompute without them.
        model.enable_input_require_grads()
    if begin is not None:
        model = begin(model)
    elif settings.method == "lora":
        model = with_adapter(model, settings.lora_rank, settings.lora_alpha, seed)
    weights = finetune(model, train, validation, settings, root, run=name, seed=seed, device=device)
    if processes.leads():
        folder = root / "models" / name
        if hasattr(model, "peft_config"):
            save_adapter(model, base_name, folder, weights)
        else:
            save_model(model, checkpoint.tokenizer(), folder, weights)
    processes.wait(cpu=device == "cpu")


def finetune(
    model: Any,
    train: list[Example],
    validation: list[Example],
    settings: Finetune,
    root: Path,
    *,
    run: str = "corrupted",
    seed: int = 0,
    device: str | None = None,
) -> dict[str, torch.Tensor] | None:
    """Train `model` in place, all of it or its adapter, on `device` (None: where the model is).

    The run directory `root` gets the log in training.parquet, checkpoints/`run` during training, and
    tensorboard/`run` if `settings.report_to` lists it. Returns all weights if the model is spread over
    processes (FSDP).

    Several processes that were started together share each step (see `processes`), so steps and losses are the
    same as with one process; all of them must call this.

    Resumes from the last checkpoint, if any; the caller removes the checkpoints after it has saved the model. The
    loss is on completions, averaged over the tokens of an effective batch. Raises TrainingDiverged if a loss or a
    gradient is not finite; the log and earlier checkpoints are kept. Raises UsageError if several processes cannot
    share this model's loss.
    """
    cpu = model.device.type == "cpu" if device is None else device == "cpu"
    checkpoints = root / "checkpoints" / run
    if processes.leads():
        _remove_broken(checkpoints)
    processes.wait(cpu=cpu)
    checkpoint = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    log = TrainingLog(run, root / TRAINING.path())
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, checkpoints, run, seed, cpu=cpu, resumed=checkpoint is not None),
        train_dataset=[vars(example) for example in train],
        eval_dataset=[vars(example) for example in validation],
        data_collator=Batcher(keeps_logits(model)),
        callbacks=[log, *_curves(settings, root / "tensorboard" / run, checkpoint)],
    )
    trainer.together = settings.batch_size
    trainer.fill(train, validation)
    trainer.remove_callback(PrinterCallback)  # it prints every row of the log
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except _WRITE_ERRORS as error:
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        # An incomplete checkpoint may use the disk space that is needed.
        _remove_broken(checkpoints)
        why = str(error).partition("\n")[0]
        raise CrosspatchError(
            f"training of {run} stopped at step {trainer.state.global_step}: a file could not be written: {why}; "
            "earlier checkpoints are kept; run the same command again to resume"
        ) from error
    finally:
        log.close()
        if "wandb" in settings.report_to and processes.leads():
            import wandb

            # The next training starts a new wandb run.
            wandb.finish(exit_code=int(trainer.state.global_step < trainer.state.max_steps))
    model.eval()
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None


class _Trainer(Trainer):  # type: ignore[misc]
    """Reads batches of `together` examples in the order of `EpochOrder`; only the first `real` examples have a loss.

    `validated` is the mean number of target tokens per validation example; None if the loss is a mean over batches.
    """

    together = 1
    real = 0
    validated: float | None = None

    def fill(self, train: list[Example], validation: list[Example]) -> None:
        """Fill up the last batches, so losses are means over tokens however many processes share them.

        Raises UsageError for several processes if the model averages its loss over each batch itself.
        """
        self.real, count = len(train), processes.count()
        if not self.model_accepts_loss_kwargs:
            if count > 1:
                raise UsageError(
                    f"{type(self.model).__name__} averages its loss over each batch itself, so several processes "
                    "cannot share a step; train it with one process"
                )
            return
        if count > 1:
            train = filled(train, self.args.per_device_train_batch_size * count)
            self.train_dataset = [vars(example) for example in train]
        validation = filled(validation, self.args.per_device_eval_batch_size * count)
        self.eval_dataset = [vars(example) for example in validation]
        self.validated = sum(len(example.target) for example in validation) / len(validation)

    def _get_train_sampler(self, train_dataset: Any = None) -> Iterable[int]:
        examples = self.train_dataset if train_dataset is None else train_dataset
        return EpochOrder(self, [len(example["input_ids"]) for example in examples[: self.real]], len(examples))

    def compute_loss(self, model: Any, inputs: dict[str, Any], *others: Any, **named: Any) -> Any:
        """Return a batch's loss, scaled for validation batches so that their mean is the mean over all tokens."""
        if not model.training and self.validated is not None:
            # The Trainer multiplies by the number of processes because DDP averages over them.
            named["num_items_in_batch"] = self.validated * len(inputs["input_ids"]) * processes.count()
        return super().compute_loss(model, inputs, *others, **named)


def _arguments(settings: Finetune, folder: Path, run: str, seed: int, *, cpu: bool, resumed: bool) -> TrainingArguments:
    at_once, accumulated = processes.shared(settings)
    bf16 = settings.precision == "bf16"
    if settings.precision == "auto":
        bf16 = trains_faster_in_bf16("cpu" if cpu else "cuda")
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
        bf16=bf16,
        use_cpu=cpu,
        logging_steps=1,
        logging_nan_inf_filter=False,  # the filter would show the last finite loss in place of a NaN
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
        disable_tqdm=True,  # TrainingLog has a bar
        seed=seed,
        data_seed=seed,
    )
    # Train on one device per process: several visible GPUs would silently multiply the effective batch.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _curves(settings: Finetune, folder: Path, checkpoint: str | None) -> list[TrainerCallback]:
    """Return TensorBoard's callback; its folder is outside of the checkpoints, where the Trainer would put it.

    When an interrupted training resumes from a checkpoint, later points of the curves are removed.
    """
    if "tensorboard" not in settings.report_to or not processes.leads():
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    again = None if checkpoint is None else int(checkpoint.rpartition("-")[2]) + 1
    return [TensorBoardCallback(SummaryWriter(log_dir=str(folder), purge_step=again))]


def _remove_broken(checkpoints: Path) -> None:
    """Remove checkpoints that were not written completely."""
    for checkpoint in checkpoints.glob("checkpoint-*"):
        try:
            # The Trainer writes this file last, so a checkpoint without it is incomplete.
            json.loads((checkpoint / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)


def remove_checkpoints(root: Path, run: str) -> None:
    """Remove a training's checkpoints, and the folder of all checkpoints once it is empty."""
    shutil.rmtree(root / "checkpoints" / run, ignore_errors=True)
    with suppress(OSError):
        (root / "checkpoints").rmdir()
