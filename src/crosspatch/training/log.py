"""Shows a training's log as a progress bar, writes it to disk, and checks it for NaN and infinity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm
from transformers import TrainerCallback

from crosspatch.errors import TrainingDiverged
from crosspatch.tables import TRAINING
from crosspatch.training import processes


class TrainingLog(TrainerCallback):  # type: ignore[misc]
    """Shows the progress, writes the log, and stops the training if a loss or a gradient is not finite."""

    def __init__(self, run: str, path: Path) -> None:
        self.run = run
        self.path = path
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show a bar in the leading process."""
        if processes.leads():
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=f"training {self.run}", unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Update the bar; evaluate the model after the last step."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
            control.should_save = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write no checkpoint of the finished model, since the caller saves the model."""
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Write the log, and raise TrainingDiverged if a loss or a gradient is not finite."""
        if processes.leads():
            self._write(state.log_history)
        # A step with such a gradient makes the weights useless; they must not become a checkpoint.
        for name, words in (("loss", "loss"), ("eval_loss", "eval loss"), ("grad_norm", "gradient's norm")):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise TrainingDiverged(
                    f"training of {self.run} stopped at step {state.global_step}: the {words} is {value}; the log "
                    f"up to this step is in {self.path}. Try a smaller learning rate, in a new folder"
                )

    def _write(self, history: list[dict[str, Any]]) -> None:
        """Write the log so far, and show its latest values in the bar."""
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
    """Convert the Trainer's log to a table, without the last summary row, which has no losses."""
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
