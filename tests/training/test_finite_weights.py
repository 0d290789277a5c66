"""A run that has diverged ends in one sentence, and its checkpoints are of before."""

import math
from pathlib import Path

import pytest
import torch
from support.command_runs import QUIET, SHORT, folder
from torch import nn

from lit_dcem.cli.main import main
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.finite_weights import diverged

WEIGHTS = "Weights must stay finite, which a lower lr or --trainer.gradient_clip_val may help, got NaN or infinity in "
SUDDEN = [  # the second epoch has a huge learning rate
    "--model.lr_scheduler=torch.optim.lr_scheduler.ExponentialLR",
    "--model.lr_scheduler.gamma=1e38",
]


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refused(config, *arguments):
        with pytest.raises(SystemExit) as exit_:
            main(["fit", f"--config={config}", "--config=debug", *QUIET, *arguments])
        assert exit_.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return refused


@pytest.mark.parametrize("every", [1, 2], ids=["with a validation", "without one"])
def test_a_run_that_diverges_keeps_the_checkpoints_of_before(refused, every):
    validates = [f"--trainer.check_val_every_n_epoch={every}", "--trainer.max_epochs=3"]
    error = refused("regression", *SUDDEN, *validates)
    assert WEIGHTS in error and error.endswith("after update 10.")
    checkpoints = list(folder("regression").glob("checkpoints/*.ckpt"))
    assert {path.name for path in checkpoints} == ({"last.ckpt", "best.ckpt"} if every == 1 else {"last.ckpt"})
    for path in checkpoints:
        kept = Checkpoint.read(path)
        assert kept.content["global_step"] == 5
        assert all(weights.isfinite().all() for weights in kept.weights().values())


@pytest.mark.parametrize("config", ["regression", "regression_gd", "cartpole", "cartpole_dcem"])
def test_no_experiment_trains_on_with_weights_that_are_not_finite(refused, config):
    error = refused(config, "--model.optimizer.lr=1e36")
    assert WEIGHTS in error and error.endswith("after update 5.")
    assert not list(Path("runs").glob("*/*/checkpoints/*.ckpt"))


def test_a_planner_whose_model_has_diverged_says_so(refused):
    error = refused("swingup_phase1", *SHORT, "--model.optimizer.lr=1e6", "--data.seed_updates=1")
    rule = "A policy must choose finite actions, which diverged networks do not (a lower lr may help)"
    assert error.endswith(f"{rule}, got NaN or infinity.")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_weights_that_are_not_finite_are_named(value):
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert diverged(module) is None
    with torch.no_grad():
        module[1].bias[1] = value
    assert diverged(module) == "1.bias"
    assert diverged(nn.ReLU()) is None
