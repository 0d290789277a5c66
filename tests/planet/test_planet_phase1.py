"""Phase 1 of PlaNet: it collects through Lightning, learns, and resumes after a kill as if nothing had happened."""

import random

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from support.phases import (
    ROLLOUTS,
    assert_killed_run_goes_on,
    assert_same,
    distributed,
    fit,
    lines,
    parts,
)

from lit_dcem import CartpoleStates, Rollouts
from lit_dcem.errors import UsageError
from lit_dcem.planet.phases.model_learning import ModelLearning

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


@pytest.mark.parametrize("stop", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_resumed_run_is_bit_identical(tmp_path, stop):
    fit(tmp_path / "whole")
    fit(tmp_path / "cut", stop)
    random.seed(5)
    fit(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert_same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [20])
def test_killed_run_goes_on_bit_identical(tmp_path, kills):
    assert_killed_run_goes_on(tmp_path, kills)


def test_rollouts_keep_the_pace(tmp_path):
    _, data, trainer = fit(tmp_path)
    updates = trainer.global_step
    state = data.state_dict()["ranks"][0]
    steps = sum(len(episode["actions"]) for episode in state["collector"]["running"]) + data._replay.num_steps
    assert state["counts"][:2] == [updates, steps]
    with_policy = (updates - 1 - ROLLOUTS["seed_updates"]) * ROLLOUTS["update_interval"]
    assert with_policy <= state["counts"][2] < with_policy + ROLLOUTS["num_envs"]
    assert data.simulator_steps == ROLLOUTS["action_repeat"] * steps


@pytest.mark.parametrize("interval", [1.5, 6, 0])
def test_another_interval_of_a_resumed_run_holds_from_then_on(tmp_path, interval):
    """No burst of steps to catch up with, and no updates without steps until the old ones suffice."""
    first, last, more = ROLLOUTS["update_interval"], tmp_path / "last.ckpt", {"update_interval": interval}

    def steps_after(epochs, **options):
        _, data, trainer = fit(tmp_path, epochs, resume=last if last.exists() else None, **options)
        return trainer.global_step, data.state_dict()["ranks"][0]["counts"][2]

    begun, _ = steps_after(3)
    assert begun > ROLLOUTS["seed_updates"] + 1
    for epochs in (4, 6):  # resumed twice
        updates, steps = steps_after(epochs, **more)
        due = (begun - ROLLOUTS["seed_updates"]) * first + (updates - 1 - begun) * interval
        assert due <= steps < due + ROLLOUTS["num_envs"]


def test_validation_leaves_training_alone_and_repeats(tmp_path):
    model, data, trainer = fit(tmp_path, 2)
    before = torch.get_rng_state()
    results = [trainer.validate(model, data, verbose=False)[0]["val/return"] for _ in range(2)]
    assert results[0] == results[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_accumulated_batches_are_one_update(tmp_path, monkeypatch):
    """The scale is fitted once, and slow copies move once an update: two, two and one of an epoch's five batches."""
    updates = []
    monkeypatch.setattr(ModelLearning, "before_update", lambda self, update, *_: updates.append(update))
    fit(tmp_path, max_epochs=1, also=[GradientAccumulationScheduler({0: 2})])
    assert updates == [0, 1, 2]


def test_other_environment_is_refused(tmp_path):
    with pytest.raises(UsageError, match="observation_dim 5 and action_dim 1, got observation_dim 3 and action_dim 1"):
        fit(tmp_path, env="cartpole-balance")


def test_other_data_is_refused():
    model, _ = parts()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1)
    with pytest.raises(UsageError, match=r"learns from lit_dcem\.Rollouts, got CartpoleStates as data"):
        trainer.fit(model, CartpoleStates())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"update_interval": -1.0}, "update_interval must be at least 0 and finite, got -1.0"),
        ({"exploration_noise": -1.0}, "must be at least 0 and finite, got 4 and -1.0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Rollouts(**{**ROLLOUTS, **options})


@pytest.mark.slow
def test_two_processes_train_on_their_own_environments(tmp_path):
    ranks, saved = distributed(tmp_path)
    assert [len(rank) for rank in ranks] == [20, 20]
    assert ranks[0] != ranks[1]
    assert len(saved["Rollouts"]["ranks"]) == 2
    assert [(tmp_path / "replay" / f"rank_{rank}" / "episodes.f32").stat().st_size > 0 for rank in range(2)]
