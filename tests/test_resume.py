"""A run that is interrupted and resumed gives, bit for bit, what an uninterrupted one gives."""

import random

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint

from lit_dcem import DCEM, EnergyNetwork, EnergyRegression, RegressionData
from lit_dcem.callbacks.history import History
from lit_dcem.callbacks.random_states import RandomStates


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def fit(path, max_steps, resume=None, seed=0):
    pl.seed_everything(seed, verbose=False)
    solver = DCEM(num_candidates=10, num_elites=3, num_iterations=3)
    options = {"lr_scheduler": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5), "loss_iterations": 2}
    model = EnergyRegression(solver, EnergyNetwork(hidden_dim=8), validation_iterations=(3,), **options)
    losses, history = Losses(), History()
    saving = {"save_last": True, "every_n_train_steps": 1, "enable_version_counter": False}
    checkpoints = ModelCheckpoint(dirpath=path, **saving)
    callbacks = [RandomStates(), history, losses, EMAWeightAveraging(decay=0.5), checkpoints]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = pl.Trainer(max_steps=max_steps, default_root_dir=path, callbacks=callbacks, **quiet)
    run.fit(model, RegressionData(batch_size=7, updates_per_epoch=4), ckpt_path=resume)
    return losses.values, [(row["step"], row["val/mse"]) for row in history.rows]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("stop", [2, 4, 6])
def test_resumed_losses_are_bit_identical(tmp_path, stop):
    whole, curve = fit(tmp_path / "whole", 10)
    first, _ = fit(tmp_path / "cut", stop)
    random.seed(5)
    np.random.seed(5)
    rest, rest_curve = fit(tmp_path / "cut", 10, resume=tmp_path / "cut" / "last.ckpt", seed=0)
    assert first + rest == whole
    assert rest_curve[-1] == curve[-1]


def test_checkpoints_hold_plain_data(tmp_path):
    fit(tmp_path, 2)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["global_step"] == 2
    assert content["callbacks"]["RandomStates"]["ranks"][0].keys() == {"python", "numpy", "torch", "cuda"}


def test_other_generators_are_restored():
    callback, trainer = RandomStates(), pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    saved = callback.state_dict()
    expected = random.random(), np.random.rand(), torch.rand(())
    callback.load_state_dict(saved)
    callback.on_train_start(trainer, None)
    assert (random.random(), np.random.rand(), torch.rand(())) == expected
