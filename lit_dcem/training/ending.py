"""How a training ended, said by the training itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

from lit_dcem.files.replacing import open_replacing


class Ending(pl.Callback):
    """Writes a file when training comes to its own end; one that was cut off by a signal or an error leaves none.

    Its end is the limit of epochs or steps, a callback that stops it (``EarlyStopping``, your own), or the ``Timer``.
    Neither the exit code nor the last checkpoint tells: a checkpoint may be older than the end.

    Args:
        path: JSON file, with "done", or "out of time" if the Timer stopped it.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and stage == "fit":
            self.path.unlink(missing_ok=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            with open_replacing(self.path) as file:
                json.dump({"status": "out of time" if _out_of_time(trainer) else "done"}, file)


def _out_of_time(trainer: pl.Trainer) -> bool:
    """Whether a Timer stopped training before its last epoch or step."""
    callbacks = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    remaining = [each.time_remaining() for each in callbacks if isinstance(each, Timer)]
    return any(left is not None and left <= 0 for left in remaining) and not _complete(trainer)


def _complete(trainer: pl.Trainer) -> bool:
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return (epochs is not None and 0 <= epochs <= trainer.current_epoch) or 0 <= steps <= trainer.global_step
