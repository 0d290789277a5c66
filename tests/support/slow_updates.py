"""A callback that a test gives to a run in a process of its own."""

import time

import pytorch_lightning as pl


class SlowUpdates(pl.Callback):
    """Says when an update has ended, and makes the next one wait for a signal to come."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        print(f"update {trainer.global_step}", flush=True)
        time.sleep(0.3)
