"""A callback that kills the process it is in, at the moment a test asks for."""

import os
import signal

import pytorch_lightning as pl
import torch


class Killer(pl.Callback):
    """Kills without warning.

    Args:
        moment: "update", "validation", "save" (in the middle of writing a checkpoint) or "epoch" (as one begins).
        number: of the moments of this kind in this process, from 1.
    """

    def __init__(self, moment: str, number: int) -> None:
        self.moment, self.left = moment, number

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
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, *_):
        if self.moment == "update":
            self._pass()

    def on_validation_batch_end(self, trainer, *_):
        if self.moment == "validation" and not trainer.sanity_checking:
            self._pass()

    def on_train_epoch_start(self, trainer, pl_module):
        if self.moment == "epoch" and trainer.current_epoch > 0:
            self._pass()
