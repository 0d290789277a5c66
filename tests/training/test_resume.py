"""A run that is interrupted and resumed gives, bit for bit, what an uninterrupted one gives."""

import random

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint

from lit_dcem import (
    DCEM,
    ActionDecoder,
    CartpoleEmbedding,
    CartpoleStates,
    EnergyNetwork,
    EnergyRegression,
    RegressionData,
)
from lit_dcem.training.history import History
from lit_dcem.training.random_states import RandomStates

SMALL = {"num_candidates": 10, "num_elites": 3, "num_iterations": 3}


def halving(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


class Losses(pl.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def regression():
    options = {"lr_scheduler": halving, "loss_iterations": 2, "validation_iterations": (3,)}
    model = EnergyRegression(DCEM(**SMALL), EnergyNetwork(hidden_dim=8), **options)
    return model, RegressionData(batch_size=7, updates_per_epoch=4)


def cartpole():
    decoder = ActionDecoder(2, 20, hidden_dim=8, lower=-100.0, upper=100.0)
    model = CartpoleEmbedding(decoder, DCEM(**SMALL), lr_scheduler=halving, validation_repeats=1)
    return model, CartpoleStates(batch_size=3, updates_per_epoch=4)


def fit(path, max_steps, resume=None, seed=0, experiment=regression):
    pl.seed_everything(seed, verbose=False)
    model, data = experiment()
    losses, history = Losses(), History()
    saving = {"save_last": True, "every_n_train_steps": 1, "enable_version_counter": False}
    checkpoints = ModelCheckpoint(dirpath=path, **saving)
    callbacks = [RandomStates(), history, losses, EMAWeightAveraging(decay=0.5), checkpoints]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = pl.Trainer(max_steps=max_steps, default_root_dir=path, callbacks=callbacks, **quiet)
    run.fit(model, data, ckpt_path=resume)
    return losses.values, [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("stop", [2, 4, 6])
@pytest.mark.parametrize("experiment", [regression, cartpole])
def test_resumed_losses_are_bit_identical(tmp_path, stop, experiment):
    whole, curve = fit(tmp_path / "whole", 10, experiment=experiment)
    first, _ = fit(tmp_path / "cut", stop, experiment=experiment)
    random.seed(5)
    np.random.seed(5)
    rest, rest_curve = fit(tmp_path / "cut", 10, resume=tmp_path / "cut" / "last.ckpt", experiment=experiment)
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
