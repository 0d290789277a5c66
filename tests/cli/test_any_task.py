"""Another task is one option: the sizes are the environment's, and later phases have the task of the one before."""

from pathlib import Path

import pytest
import torch

from lit_dcem.cli.main import main

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
MODULE = """
import gymnasium
import numpy as np


class PointMass(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=4).astype(np.float32)
        return self.state, {}

    def step(self, action):
        self.state[2:] += 0.1 * action
        self.state[:2] += 0.1 * self.state[2:]
        return self.state.copy(), -float(np.square(self.state[:2]).sum()), False, False, {}


gymnasium.register("PointMass-v0", PointMass, max_episode_steps=200)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "disabled")  # pictures would take longer than the rest


def train(phase, *options):
    """The checkpoint of a run with shipped configs alone, at debug size."""
    main(["fit", "--config", phase, "--config", "debug", *QUIET, *options])
    return torch.load(Path("runs", phase, "version_0/checkpoints/last.ckpt"), weights_only=True)


@pytest.mark.filterwarnings("ignore:There will be no videos")
def test_another_task_of_dm_control():
    trained = train("phase1", "--data.env", "hopper-hop", "--trainer.max_epochs=1")
    assert trained["hyper_parameters"]["world_model"]["init_args"]["observation_dim"] == 15
    assert trained["datamodule_hyper_parameters"]["env"] == "hopper-hop"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There will be no videos")
def test_an_environment_of_ones_own_goes_through_all_three_phases(tmp_path, monkeypatch):
    (tmp_path / "my_env.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    train("phase1", "--data.env", "my_env:PointMass-v0")
    assert train("phase2")["hyper_parameters"]["planner"]["init_args"]["decoder"]["init_args"]["action_dim"] == 2
    assert train("phase3")["datamodule_hyper_parameters"]["env"] == "my_env:PointMass-v0"
