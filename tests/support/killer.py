"""A callback that kills the process it is in, or sends it another signal, at the moment a test asks for."""

import signal

import pytorch_lightning as pl
import torch


class Killer(pl.Callback):
    """Sends a signal, which by default kills without warning.

    Args:
        moment: "step" (before an update is made), "update" (after it), "validation" (after one of its batches), "save"
            (in the middle of writing a checkpoint) or "epoch" (as one begins).
        number: of the moments of this kind in this process, from 1.
        name: of the signal.
        times: at how many of these moments, one after another.
    """

    def __init__(self, moment: str, number: int, name: str = "SIGKILL", times: int = 1) -> None:
        self.moment, self.left = moment, number
        self.signal, self.times = signal.Signals[name], times

    def setup(self, trainer, pl_module, stage):
        if self.moment == "save":
            original = torch.save

            def save(content, file, *args, **kwargs):
                if self.left == 1:
                    file.write(b"half a checkpoint")
                    file.flush()
                self._pass()
                return original(content, file, *args, **kwargs)

            torch.save = save

    def _pass(self):
        self.left -= 1
        if -self.times < self.left <= 0:
            signal.raise_signal(self.signal)

    def on_before_optimizer_step(self, *_):
        if self.moment == "step":
            self._pass()

    def on_train_batch_end(self, *_):
        if self.moment == "update":
            self._pass()

    def on_validation_batch_end(self, trainer, *_):
        if self.moment == "validation" and not trainer.sanity_checking:
            self._pass()

    def on_train_epoch_start(self, trainer, pl_module):
        if self.moment == "epoch" and trainer.current_epoch > 0:
            self._pass()
