"""The checkpoint that a run is resumed from: written between epochs, and when a signal stops the run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_info

from lit_dcem.training.finite_weights import diverged
from lit_dcem.training.run_folder import CHECKPOINTS, run_folder

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""that stop a run; the last, which Windows lacks, is what Slurm sends where it is asked to warn a job of its end"""
STOPPING = "Stopping with a checkpoint, after this update and the validation if one is due; once more to stop at once."


class _AtOnceError(SIGTERMException):
    """A signal that ends the run where it is: in the middle of something that no checkpoint can describe."""


class LastCheckpoint(pl.Callback):
    """Keeps ``checkpoints/last.ckpt``, from which a run is resumed bit for bit.

    `ModelCheckpoint` saves before an epoch is over. A run resumed from such a checkpoint lacks what Lightning does
    afterwards, such as writing the epoch's metrics and stepping a scheduler that waits for a plateau. This callback
    saves when all of that is done: before the next epoch begins, and before training ends. It must come before all
    other callbacks, because at these moments they begin the next epoch or replace the weights by averaged ones. If
    ``max_steps`` or ``max_time`` ends a run within an epoch, it saves before Lightning closes that epoch.

    SIGINT, SIGTERM and SIGUSR1 end a run with a checkpoint, in all processes together, after the current update and the
    validation that follows it, if any. A second signal ends the run immediately, and so does a first one that arrives
    before there is an update to save. It does so by an exception, which other code might catch: the run then ends at
    the next `raise_if_stopped`, or after its first update.

    Args:
        every_n_epochs: save every this many epochs.

    Raises:
        ValueError: ``every_n_epochs`` below 1.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}.")
        self.every_n_epochs = every_n_epochs
        self.received: int | None = None
        """the signal that stops the run"""
        self._has_updated = False
        self._stops = False
        self.said = "Stopped."
        """what became of the run that was stopped"""
        self.left = ""
        """how to resume a run that ended in the middle of something, in words; empty without a checkpoint"""
        self._step = self._saved_step = 0
        self._corrections: dict[str, int] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = self._saved_step = trainer.global_step
        loop = trainer.fit_loop
        if not _in_epoch(loop.epoch_progress.state_dict()):
            loop.epoch_loop.restarting = False  # with max_steps Lightning takes every checkpoint for one in an epoch
        elif _validated(trainer):
            loop.epoch_loop._batches_that_stepped -= 1  # Lightning skips the validation, and counts the update again
        if threading.current_thread() is threading.main_thread():  # where Python takes signals
            for number in SIGNALS:  # in place of Lightning's handlers; it restores the first ones in the end
                signal.signal(number, self._receive)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch % self.every_n_epochs == 0:
            self._save(trainer, ready=-1)  # this epoch has not begun

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.should_stop and _within_epoch(trainer):
            self._save(trainer)
        if self._stops:  # Lightning would end the validation after its first batch
            trainer._signal_connector.received_sigterm = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._stops:
            trainer._signal_connector.received_sigterm = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if _within_epoch(trainer):
            self._save(trainer, processed=-1)
        else:
            self._stop_if_told(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        self._has_updated |= stepped
        if stepped:  # gradients that are still being accumulated would be lost
            self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: pl.Trainer) -> None:
        """Let Lightning stop here, if any process was told to."""
        if trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            self.received = self.received or signal.SIGTERM
            self._stops = True
            trainer._signal_connector.received_sigterm = True

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if type(exception) is SIGTERMException and trainer.received_sigterm:  # Lightning's, between two updates
            self.said = self._saved_or_diverged(trainer, pl_module)
            trainer.strategy.barrier()  # a process that ended would have the others killed while they write
        elif self._has_updated and self._saved_step:
            self.left = f"--ckpt_path last resumes from update {self._saved_step}"
            self.said = f"Stopped at once; {self.left}."
        elif self._has_updated:
            self.said = "Stopped at once, before the first checkpoint to resume from."

    def _saved_or_diverged(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        lost = trainer.strategy.reduce_boolean_decision(diverged(pl_module) is not None, all=False)
        if lost:
            return f"Stopped after update {trainer.global_step}, which was not saved: weights are NaN or infinite."
        self._save(trainer)
        return f"Stopped after update {trainer.global_step}, and saved; resume with --ckpt_path last."

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for name, change in self._corrections.items():
            for counts in (progress["current"], progress["total"]):
                counts[name] += change

    def _save(self, trainer: pl.Trainer, **corrections: int) -> None:
        """Save unless that was done after this update, with corrected numbers of epochs."""
        if trainer.global_step > self._saved_step and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            self._corrections = corrections
            trainer.save_checkpoint(run_folder(trainer) / CHECKPOINTS / "last.ckpt", weights_only=False)
            self._corrections = {}
            self._saved_step = trainer.global_step

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, number
        if again or not self._has_updated:
            raise _exception_of(number)
        rank_zero_info(STOPPING)

    def raise_if_stopped(self) -> None:
        """Raise the exception of a signal that arrived before the first update, in case other code has caught it."""
        if self.received is not None and not self._has_updated:
            raise _exception_of(self.received)


def without_requeueing(trainer: pl.Trainer) -> None:
    """Keep Lightning from handling SIGUSR1 under Slurm, before it trains.

    It would save in the middle of an update, into the current folder, and ask Slurm to requeue the job. Every later run
    in that folder, of whatever experiment, would begin from this checkpoint.
    """
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        environment.auto_requeue = False


def raise_if_stopped(trainer: pl.Trainer) -> None:
    """End a run that was told to stop; long work before the first update must call this. See `LastCheckpoint`."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, LastCheckpoint):
            callback.raise_if_stopped()


def _exception_of(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else _AtOnceError()


def _within_epoch(trainer: pl.Trainer) -> bool:
    """Whether training is at a batch that is not the last one of its epoch."""
    return trainer.state.fn == "fit" and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _validated(trainer: pl.Trainer) -> bool:
    """Whether the run is resumed within an epoch, after an update that a validation follows."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop.restarted_on_last and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def _in_epoch(progress: dict[str, Any]) -> bool:
    current = progress["current"]
    return len({current[name] for name in ("ready", "started", "processed")}) > 1
