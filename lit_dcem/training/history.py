"""The validation curve, kept inside the checkpoint."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch


class History(pl.Callback):
    """Records every validation during training: step, seconds trained, mean loss of the epoch so far, ``val/`` metrics.

    Kept in the checkpoint, so that a curve survives a resumed run and a figure needs nothing but the checkpoint.
    Seconds count training and validation; a resumed run counts on from the seconds of its checkpoint.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._seconds = 0.0
        self._started = time.perf_counter()
        self._loss, self._updates = torch.zeros(()), 0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "loss": self._loss, "updates": self._updates, "seconds": self._spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        if "loss" in state_dict:  # not in an exported checkpoint
            self._loss, self._updates = state_dict["loss"], state_dict["updates"]
        before = self.rows[-1]["seconds"] if self.rows else 0.0  # older checkpoints have no more
        self._seconds = state_dict.get("seconds", before)

    @property
    def _spent(self) -> float:
        return self._seconds + time.perf_counter() - self._started

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self._loss, self._updates = torch.zeros(()), 0
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches  # by which Lightning has divided it
        self._loss = self._loss.to(loss) + loss  # stays on the device: no waiting for it
        self._updates += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        if self._updates:
            metrics["train/loss"] = float(self._loss) / self._updates
        self.rows.append({"step": float(trainer.global_step), "seconds": self._spent, **metrics})
