"""A training that came to its own end says so; one that was cut off does not."""

import json
import os
import signal

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer

from lit_dcem import DCEM, EnergyNetwork, EnergyRegression, RegressionData
from lit_dcem.training.ending import Ending

SIZES = {"num_candidates": 10, "num_elites": 3, "num_iterations": 2}


class Do(pl.Callback):
    """Calls something after the third batch of a run."""

    def __init__(self, call):
        self.call = call

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 3:
            self.call(trainer)


class Late(Timer):
    """Its time is over after the first batch, and not before it."""

    def on_fit_start(self, trainer, *args, **kwargs):
        pass


def stop(trainer):
    trainer.should_stop = True


def terminate(trainer):
    os.kill(os.getpid(), signal.SIGTERM)


def crash(trainer):
    raise ValueError("a mistake")


def fit(path, *callbacks, **limits):
    """Train; what it says of its end is returned, None if nothing."""
    path.write_text('{"status": "of an earlier try"}')
    model = EnergyRegression(DCEM(**SIZES), EnergyNetwork(hidden_dim=8))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    limits = {"limit_val_batches": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False, **limits}
    trainer = pl.Trainer(callbacks=[*callbacks, Ending(str(path))], **quiet, **limits)
    try:
        trainer.fit(model, RegressionData(batch_size=7, updates_per_epoch=4))
    except (SystemExit, ValueError):
        assert not path.exists()
    return json.loads(path.read_text())["status"] if path.exists() else None


@pytest.mark.parametrize(
    ("callback", "limits", "status"),
    [
        (None, {"max_epochs": 2}, "done"),
        (None, {"max_steps": 5}, "done"),
        (EarlyStopping("val/mse", patience=1, min_delta=1e6), {"max_epochs": 9}, "done"),
        (EarlyStopping("val/mse", stopping_threshold=1e6), {"max_epochs": 9}, "done"),
        (Do(stop), {"max_epochs": 9}, "done"),
        (Timer({"seconds": 0}), {"max_epochs": 9}, "out of time"),
        (Late({"seconds": 0}), {"max_epochs": -1}, "out of time"),
        (Late({"seconds": 0}), {"max_epochs": 1, "limit_train_batches": 1}, "done"),
        (Late({"seconds": 0}), {"max_steps": 1}, "done"),
        (Timer({"hours": 1}), {"max_epochs": 1}, "done"),
        (Do(terminate), {"max_epochs": 9}, None),
        (Do(crash), {"max_epochs": 9}, None),
    ],
)
def test_says_how_it_ended(tmp_path, callback, limits, status):
    assert fit(tmp_path / "ending.json", *([callback] if callback else []), **limits) == status
