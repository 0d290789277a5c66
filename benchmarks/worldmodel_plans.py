"""The solvers of stable-worldmodel and ours, in its TD-MPC2 of a cheetah, and as policies of its world."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import gymnasium as gym
import numpy as np
import stable_worldmodel as swm  # pyright: ignore[reportMissingImports]
import torch
from stable_worldmodel.policy import PlanConfig, WorldModelPolicy  # pyright: ignore[reportMissingImports]
from stable_worldmodel.solver import CEMSolver, ICEMSolver, MPPISolver  # pyright: ignore[reportMissingImports]
from stable_worldmodel.wm.tdmpc2.tdmpc2 import TDMPC2, two_hot  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from lit_dcem import DCEM, icem
from lit_dcem.adapters.stable_worldmodel import Costable, WorldModelSolver

ENV = "swm/CheetahDMControl-v0"
HORIZON = 5


class Config(dict):
    """A config of TD-MPC2, which reads it as attributes and as a dict."""

    __getattr__ = dict.__getitem__


WM = Config(
    horizon=HORIZON, mlp_dim=128, enc_dim=128, simnorm_dim=8, num_q=2, rho=0.5, tau=0.01, consistency_coef=20.0,
    reward_coef=0.1, value_coef=0.1, discount=0.99, uncertainty_penalty=0.5, entropy_coef=1e-4, num_bins=101, vmin=-6,
    vmax=2, encoding={"observation": 64},
)  # fmt: skip


class Latest(nn.Module):
    """TD-MPC2 on the last observation of the history that a policy hands over; no more of the model than its cost."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def get_cost(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """Costs ``[B, N]``."""
        return self.model.get_cost({"observation": info_dict["observation"][:, :, -1]}, action_candidates)  # pyright: ignore


def data(episodes: int, seed: int) -> dict[str, Tensor]:
    """Random episodes: observations ``[E, 101, 17]``, actions ``[E, 100, 6]`` and rewards ``[E, 100]``."""
    env, rng = gym.make(ENV), np.random.default_rng(seed)
    found: dict[str, list[Any]] = {"observation": [], "action": [], "reward": []}
    for episode in range(episodes):
        observations, actions, rewards = [env.reset(seed=1000 * seed + episode)[0]], [], []
        action = rng.uniform(-1, 1, 6)
        for _ in range(100):
            action = np.clip(0.6 * action + 0.8 * rng.uniform(-1, 1, 6), -1, 1)
            observation, reward, *_ = env.step(action)
            for each, new in ((observations, observation), (actions, action), (rewards, reward)):
                each.append(new)
        for name, values in zip(found, (observations, actions, rewards), strict=True):
            found[name].append(values)
    return {name: torch.tensor(np.array(values), dtype=torch.float32) for name, values in found.items()}


def trained(episodes: dict[str, Tensor], updates: int, seed: int) -> Latest:
    """A model trained on pieces of the episodes by two terms of its own loss; its values stay constant."""
    torch.manual_seed(seed)
    model = TDMPC2(Config(wm=WM, action_dim=6, extra_dims={"observation": 17}))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(updates):
        rows, first = torch.randint(len(episodes["action"]), (128, 1)), torch.randint(100 - HORIZON, (128, 1))
        steps = first + torch.arange(HORIZON + 1)
        optimizer.zero_grad()
        _loss(model, {name: values[rows, steps] for name, values in episodes.items()}).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        optimizer.step()
    return Latest(model.eval().requires_grad_(False))


def _loss(model: TDMPC2, batch: dict[str, Tensor]) -> Tensor:
    """The consistency of latent states and the cross-entropy of rewards, as in ``tdmpc2_forward``."""
    latents, loss = model.encode({"observation": batch["observation"]}), torch.zeros(())
    latent = latents[:, 0]
    for t in range(HORIZON):
        latent, reward = model.forward(latent, batch["action"][:, t])
        consistency = nn.functional.mse_loss(latent, latents[:, t + 1].detach())
        entropy = -(two_hot(batch["reward"][:, t], model.cfg) * reward.log_softmax(-1)).sum(-1).mean()
        loss = loss + WM.rho**t * (WM.consistency_coef * consistency + WM.reward_coef * entropy)
    return loss / HORIZON


def solvers(cost: Costable, candidates: int, elites: int, iterations: int, seed: int) -> dict[str, Any]:
    """Solvers with the same number of evaluations, before that of the answer."""
    theirs: dict[str, Any] = {
        "num_samples": candidates,
        "topk": elites,
        "n_steps": iterations,
        "batch_size": 64,
        "seed": seed,
    }
    sizes: dict[str, Any] = {"num_candidates": candidates, "num_elites": elites, "num_iterations": iterations}
    bounded: dict[str, Any] = {"lower": -1.0, "upper": 1.0}
    shrinking = [int(candidates * 1.25**-i) for i in range(3)]
    fewer: dict[str, Any] = {
        **sizes,
        "num_iterations": 3,
        "num_candidates": candidates * candidates * iterations // sum(shrinking),
    }
    return {
        "stable-worldmodel CEMSolver": CEMSolver(cost, **theirs),
        "stable-worldmodel ICEMSolver": ICEMSolver(cost, **theirs),
        "stable-worldmodel MPPISolver": MPPISolver(cost, **theirs),
        "lit-dcem CEM": WorldModelSolver(cost, DCEM(temperature=0.0, **sizes), **bounded),
        "lit-dcem DCEM, differentiable": WorldModelSolver(cost, DCEM(temperature=0.1, **sizes), **bounded),
        "lit-dcem iCEM, three iterations": WorldModelSolver(
            cost, icem(noise_exponent=1.0, horizon=HORIZON, **fewer), **bounded
        ),
    }


def cheetah(seed: int, quick: bool) -> dict[str, dict[str, list[float]]]:
    """Costs of plans as the model sees them, clipped to the bounds, and returns of episodes that follow plans."""
    cost = trained(data(3 if quick else 30, seed), 5 if quick else 400, seed)
    states = data(2, seed + 100)["observation"].flatten(0, 1)[:: 50 if quick else 8, None]
    found: dict[str, dict[str, list[float]]] = {}
    for name, sizes in {"model, 300 evaluations": (50, 8, 6), "model, 9,000 evaluations": (300, 30, 30)}.items():
        torch.manual_seed(seed)
        found[name] = {each: _cost(cost, solver, states) for each, solver in solvers(cost, *sizes, seed).items()}
    torch.manual_seed(seed)
    every = solvers(cost, *((20, 4, 2) if quick else (300, 30, 30)), seed)
    found["episodes"] = {name: _returns(solver, seed, 5 if quick else 100) for name, solver in every.items()}
    return found


class Bowl:
    """The model of the package's own tests: the squares of all actions."""

    def get_cost(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """Costs ``[B, N]``."""
        return action_candidates.square().sum((-1, -2))


def bowl(seed: int, quick: bool) -> dict[str, dict[str, list[float]]]:
    """Costs of plans of 5 times 6 actions for 20 environments after 1,000 evaluations; the least is 0."""
    torch.manual_seed(seed)
    states = torch.zeros(2 if quick else 20, 1, 17)
    every = solvers(Bowl(), 100, 10, 10, seed)
    return {"bowl": {name: _cost(Bowl(), solver, states) for name, solver in every.items()}}


EXAMPLES = {"bowl": bowl, "cheetah": cheetah}


def _cost(cost: Costable, solver: Any, states: Tensor) -> list[float]:
    space = gym.spaces.Box(-1, 1, (len(states), 6))
    solver.configure(action_space=space, n_envs=len(states), config=PlanConfig(HORIZON, HORIZON))
    with contextlib.redirect_stdout(io.StringIO()):
        actions = solver.solve({"observation": states})["actions"].clamp(-1, 1)
    return cost.get_cost({"observation": states.unsqueeze(1)}, actions.unsqueeze(1)).squeeze(1).tolist()


def _returns(solver: Any, seed: int, steps: int) -> list[float]:
    world = swm.World(ENV, num_envs=4, add_pixels=False, max_episode_steps=steps)
    world.set_policy(WorldModelPolicy(solver, PlanConfig(HORIZON, HORIZON)))
    rewards: list[np.ndarray] = []
    with contextlib.redirect_stdout(io.StringIO()):
        world._run(episodes=4, seed=seed, mode="wait", on_step=lambda now: rewards.append(now.rewards.copy()))
    world.close()
    return np.sum(rewards, 0).tolist()
