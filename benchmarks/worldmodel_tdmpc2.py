"""TD-MPC2 of stable-worldmodel on its walker, trained online as in its own example, but small enough for a processor.

Theirs is ``scripts/expert/tdmpc2_online.py``: random steps first, then steps that are planned by their CEM, and an
update for each. Model, loss, policy and solver are theirs; networks are smaller, updates follow whole episodes.
"""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_worldmodel.policy import PlanConfig, WorldModelPolicy  # pyright: ignore[reportMissingImports]
from stable_worldmodel.wm.tdmpc2.tdmpc2 import TDMPC2, tdmpc2_forward  # pyright: ignore[reportMissingImports]
from torch import Tensor

ENV, TASK = "swm/WalkerDMControl-v0", "stand"
PLAN = PlanConfig(horizon=3, receding_horizon=1, warm_start=True)


class Config(dict):
    """A config of TD-MPC2, which reads it as attributes and as a dict."""

    __getattr__ = dict.__getitem__


WM = Config(
    horizon=PLAN.horizon, mlp_dim=64, enc_dim=64, simnorm_dim=8, num_q=2, rho=0.5, tau=0.01, consistency_coef=20.0,
    reward_coef=0.1, value_coef=0.1, discount=0.99, uncertainty_penalty=0.0, entropy_coef=1e-4, num_bins=101, vmin=-10,
    vmax=10, encoding={"observation": 64},
)  # fmt: skip
CONFIG = Config(wm=WM, action_dim=6, extra_dims={"observation": 24})


class Size(NamedTuple):
    """How long a model is trained: episodes of random actions, then of plans, with updates after each of these."""

    random: int = 10
    planned: int = 6
    steps: int = 500  # 1,000 of the simulator, with their action repeat of 2
    updates: int = 500


class Episodes(NamedTuple):
    """What E episodes of T steps saw: the observation before each action, and the reward after it."""

    observation: Tensor
    """``[E, T, 24]``"""
    action: Tensor
    """``[E, T, 6]``"""
    reward: Tensor
    """``[E, T]``"""


def played(solver: Any, count: int, steps: int, seed: int) -> Episodes:
    """Episodes that run side by side, by their policy with a solver, or by random actions if it is None."""
    envs = gym.vector.SyncVectorEnv([lambda: gym.make(ENV, task=TASK)] * count)
    policy = None if solver is None else WorldModelPolicy(solver=solver, config=PLAN)
    if policy is not None:
        policy.set_env(envs)
    envs.action_space.seed(seed)
    observation, found = envs.reset(seed=seed)[0], []
    for _ in range(steps):
        seen = {"observation": observation.astype(np.float32)}
        with contextlib.redirect_stdout(io.StringIO()):
            action = envs.action_space.sample() if policy is None else policy.get_action(seen)
        before, (observation, reward, *_) = observation, envs.step(action)
        found.append((before, action, reward))
    envs.close()
    return Episodes(*(torch.tensor(np.stack(each, 1), dtype=torch.float32) for each in zip(*found, strict=True)))


def trained(solver: Any, size: Size, seed: int) -> TDMPC2:
    """A model that has learned from its own plans; ``solver(model)`` finds these."""
    torch.manual_seed(seed)
    model = TDMPC2(CONFIG).eval()
    optimizers, draw = _optimizers(model), torch.Generator().manual_seed(seed)
    known = played(None, size.random, size.steps, 1000 * seed)
    for episode in range(size.planned + 1):
        for _ in range(size.updates):
            _update(model, optimizers, _pieces(known, draw))
        if episode < size.planned:
            more = played(solver(model), 1, size.steps, 1000 * seed + 100 + episode)
            known = Episodes(*(torch.cat(each) for each in zip(known, more, strict=True)))
    return model.requires_grad_(False)


def _optimizers(model: TDMPC2, lr: float = 1e-3) -> list[torch.optim.Adam]:
    """One for each part of the model; as in their example, the encoder is slower."""
    learned = [*model.dynamics.parameters(), *model.reward.parameters(), *model.qs.parameters()]
    encoder, actor = torch.optim.Adam(model.extra_encoders.parameters(), 0.3 * lr), model.pi.parameters()
    return [encoder, torch.optim.Adam(learned, lr), torch.optim.Adam(actor, lr, eps=1e-5)]


def _pieces(known: Episodes, draw: torch.Generator, count: int = 128) -> dict[str, Tensor]:
    """Pieces ``[128, H + 1, ...]`` of the episodes, drawn uniformly."""
    episodes, steps = known.reward.shape
    rows = torch.randint(episodes, (count, 1), generator=draw)
    first = torch.randint(steps - WM.horizon, (count, 1), generator=draw)
    return {name: each[rows, first + torch.arange(WM.horizon + 1)] for name, each in known._asdict().items()}


def _update(model: TDMPC2, optimizers: list[torch.optim.Adam], batch: dict[str, Tensor]) -> None:
    model.train()
    module = SimpleNamespace(model=model, log_dict=lambda *_, **__: None)
    loss = tdmpc2_forward(module, batch, "train", CONFIG)["loss"]
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 20.0)
    for optimizer in optimizers:
        optimizer.step()
    model.eval()
