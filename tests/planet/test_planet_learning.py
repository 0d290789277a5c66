"""Phase 1 learns: minutes, so among the slow tests. And it runs in mixed precision."""

import pytest
import pytorch_lightning as pl
import torch

from lit_dcem import DCEM, CEMPlanner, PlanetPhase1, Rollouts, WorldModel

SEARCH = {"num_elites": 10, "num_iterations": 4, "temperature": 0.0, "lower": -1.0, "upper": 1.0}


def fit(path, candidates, sizes, rollouts, seed=0, **trainer):
    pl.seed_everything(seed, verbose=False)
    model = WorldModel(5, 1, free_nats=1.0, kl_balance=0.8, observation_weight=20.0, reward_weight=30.0, **sizes)
    planner = CEMPlanner(DCEM(num_candidates=candidates, **SEARCH), initial_std=0.7, warm_start=True)
    module = PlanetPhase1(model, planner, lambda p: torch.optim.Adam(p, 1e-3, eps=1e-4), normalize=True)
    data = Rollouts("cartpole-balance", action_repeat=8, seed=seed, **rollouts)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet["default_root_dir"] = path  # where the replay goes
    runner = pl.Trainer(devices=1, num_sanity_val_steps=0, enable_checkpointing=False, **quiet, **trainer)
    runner.fit(module, data)
    return runner, module


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_learns_to_balance_a_pole(tmp_path, seed):
    """Uniform actions get 216 to 259 of 1,000 (ten episodes); two seeds got 744 and 719. A minute each."""
    rollouts = {"batch_size": 16, "sequence_length": 20, "update_interval": 0.5, "updates_per_epoch": 250}
    sizes = {"hidden_dim": 64, "rssm": {"deter_dim": 64, "stoch_dim": 10}}
    lasting = {"max_epochs": 12, "check_val_every_n_epoch": 12, "gradient_clip_val": 1000.0}
    runner, _ = fit(tmp_path, 60, sizes, {**rollouts, "evaluation_episodes": 5}, seed, **lasting)
    assert runner.callback_metrics["val/return"] > 500


@pytest.mark.filterwarnings("ignore:.* no instructions for bfloat16")
@pytest.mark.slow
def test_mixed_precision_trains(tmp_path):
    sizes = {"hidden_dim": 8, "rssm": {"deter_dim": 8, "stoch_dim": 3}}
    rollouts = {"batch_size": 2, "sequence_length": 5, "updates_per_epoch": 3, "seed_episodes": 1, "seed_updates": 1}
    once = {"max_epochs": 1, "precision": "bf16-mixed", "gradient_clip_val": 1.0}
    runner, module = fit(tmp_path, 12, sizes, {**rollouts, "evaluation_episodes": 1}, **once)
    assert torch.isfinite(runner.callback_metrics["train/loss"]) and runner.callback_metrics["val/return"] > 0
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
