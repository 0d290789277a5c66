"""Lightning's progress bar, with one more line: the whole of a fit, and the time that is left of it."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar, Timer
from pytorch_lightning.callbacks.progress.rich_progress import CustomTimeColumn
from rich.console import Console
from rich.progress import Task, TaskID
from rich.text import Text

from lit_dcem.training.progress import as_clock, seconds_left


class FitProgress(RichProgressBar):
    """Shows an epoch as Lightning does, and below it how many batches of the whole fit are done.

    The time left counts everything: validations, checkpoints, and the batches that this process has seen. It ends where
    ``max_epochs``, ``max_steps`` or ``max_time`` do, whichever comes first. Nothing is shown if stdout is no terminal.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not Console(**self._console_kwargs).is_terminal:
            self.disable()

    def _reset_progress_bar_ids(self) -> None:
        super()._reset_progress_bar_ids()
        self._whole: TaskID | None = None

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        columns = super().configure_columns(trainer)
        return [_Time(each.style) if isinstance(each, CustomTimeColumn) else each for each in columns]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.progress is not None and self.is_enabled:
            begun = _batches(trainer)
            total, limit = total_batches(trainer), _seconds_of_timer(trainer)
            self._whole = self.progress.add_task("All epochs", total=total, completed=begun, begun=begun, limit=limit)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.progress is not None and self._whole is not None:
            self.progress.update(self._whole, completed=_batches(trainer), limit=_seconds_of_timer(trainer))


class _Time(CustomTimeColumn):
    """Elapsed time and time left; those of the whole fit by its mean speed."""

    def render(self, task: Task) -> Text:
        if "begun" not in task.fields:
            return super().render(task)
        estimates = seconds_left(task), task.fields["limit"]
        known = [each for each in estimates if each is not None and math.isfinite(each)]
        left = as_clock(min(known)) if known else "-:--:--"
        return Text(f"{as_clock(task.elapsed or 0)} • {left}", style=self.style)


def total_batches(trainer: pl.Trainer) -> float:
    """Training batches until ``max_epochs`` or ``max_steps``; infinite without a limit."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    by_epochs = epochs * trainer.num_training_batches if epochs is not None and epochs >= 0 else math.inf
    by_steps = steps * trainer.accumulate_grad_batches if steps >= 0 else math.inf
    return min(by_epochs, by_steps)


def _batches(trainer: pl.Trainer) -> int:
    """Training batches so far, those before a resume included."""
    total = trainer.fit_loop.epoch_loop.batch_progress.total
    return total.processed  # pyright: ignore[reportAttributeAccessIssue]


def _seconds_of_timer(trainer: pl.Trainer) -> float | None:
    timers = [each for each in trainer.callbacks if isinstance(each, Timer)]  # pyright: ignore[reportAttributeAccessIssue]
    return min((left for timer in timers if (left := timer.time_remaining()) is not None), default=None)
