"""The solvers of stable-worldmodel and ours: in the bowl of its own tests, and in its TD-MPC2 of a walker."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from stable_worldmodel.policy import PlanConfig  # pyright: ignore[reportMissingImports]
from torch import Tensor
from worldmodel_tdmpc2 import PLAN, Size, played, trained

from lit_dcem import DCEM, Minimizer, cma, icem, mppi
from lit_dcem.adapters.stable_worldmodel import Costable, WorldModelSolver

MOVED = bool(find_spec("stable_worldmodel.planning"))  # after version 0.1.1
THEIRS = import_module("stable_worldmodel.planning.solver" if MOVED else "stable_worldmodel.solver")
ACTION_DIM = 6
Costs = dict[str, list[float]]
"""of the plans of each solver, for all environments"""


class Search(NamedTuple):
    """What all solvers are given: the evaluations of a plan, and the spread of the first candidates."""

    candidates: int
    elites: int
    iterations: int
    std: float = 1.0

    @property
    def evaluations(self) -> int:
        return self.candidates * self.iterations


def theirs(cost: Costable, search: Search, seed: int) -> dict[str, Any]:
    """The sampling solvers of stable-worldmodel."""
    options: dict[str, Any] = {"num_samples": search.candidates, "topk": search.elites, "n_steps": search.iterations}
    options |= {"var_scale": search.std, "batch_size": 64, "seed": seed}
    names = "CEMSolver", "ICEMSolver", "MPPISolver"
    return {f"stable-worldmodel {name}": getattr(THEIRS, name)(cost, **options) for name in names}


def ours(cost: Costable, search: Search) -> dict[str, Any]:
    """CEM and DCEM of the same sizes, inside the bounds of the actions."""
    found = {"CEM": 0.0, "DCEM, differentiable": 0.1}
    bounded: dict[str, Any] = {"lower": -1.0, "upper": 1.0, "std": search.std}
    return {f"lit-dcem {name}": WorldModelSolver(cost, _dcem(search, each), **bounded) for name, each in found.items()}


def presets(cost: Costable, search: Search, dim: int) -> dict[str, Any]:
    """CEM without bounds, which is their `CEMSolver`, and more inside the bounds: best points, and other methods."""
    bounded: dict[str, Any] = {"lower": -1.0, "upper": 1.0, "std": search.std}
    sizes: dict[str, Any] = {"num_candidates": search.candidates, "num_iterations": search.iterations}
    adapting = cma(dim, num_evaluations=search.evaluations)
    best: dict[str, Any] = {**bounded, "answer": "best"}
    return {
        "lit-dcem CEM, no bounds": WorldModelSolver(cost, _dcem(search, 0.0), std=search.std),
        "lit-dcem CEM, best point": WorldModelSolver(cost, _dcem(search, 0.0), **best),
        "lit-dcem DCEM, best point": WorldModelSolver(cost, _dcem(search, 0.1), **best),
        "lit-dcem MPPI": WorldModelSolver(cost, mppi(0.5, **sizes), **bounded),
        "lit-dcem iCEM": WorldModelSolver(cost, _icem(search, search.iterations, PLAN.horizon, 2.0), **bounded),
        "lit-dcem CMA": WorldModelSolver(cost, adapting, **best),
    }


def _dcem(search: Search, temperature: float) -> DCEM:
    candidates, elites, iterations, _ = search
    return DCEM(num_candidates=candidates, num_elites=elites, num_iterations=iterations, temperature=temperature)


def _icem(search: Search, iterations: int, horizon: int, noise_exponent: float) -> Minimizer:
    """ICEM with as many evaluations, of which each iteration spends fewer than the one before."""
    shares = sum(int(search.candidates * 1.25**-i) for i in range(iterations))
    candidates = search.candidates * search.evaluations // shares
    return icem(candidates, search.elites, iterations, horizon, noise_exponent)


def tdmpc2(seed: int, quick: bool) -> dict[str, Costs]:
    """Costs, as the model sees them, of plans from states of its own episodes, and returns of episodes of plans."""
    training, evaluation = Search(256, 64, 4, 2.0), Search(512, 64, 6, 2.0)  # both as in their example

    def player(model: Costable) -> Any:
        return theirs(model, training, seed)["stable-worldmodel CEMSolver"]

    model = trained(player, Size(2, 1, 20, 5) if quick else Size(), seed)
    players = {**theirs(model, training, seed), **ours(model, training), "random actions": None}
    names = "stable-worldmodel CEMSolver", "lit-dcem CEM", "lit-dcem DCEM, differentiable", "random actions"
    episodes = {name: played(players[name], 3, 20 if quick else 200, 1000 * seed + 500) for name in names}
    states = episodes[names[0]].observation[:, ::10].flatten(0, 1)
    found: dict[str, Costs] = {}
    for search in (training, evaluation):
        every = {**theirs(model, search, seed), **ours(model, search)}
        every |= presets(model, search, PLAN.horizon * ACTION_DIM)
        plans = {name: _seeded(solver, states, seed) for name, solver in every.items()}
        for kind, bound in (("clipped", 1.0), ("as they are", None)):
            costs = {name: _cost(model, states, plan, bound) for name, plan in plans.items()}
            found[f"TD-MPC2, {search.evaluations:,} evaluations, {kind}"] = costs
    return {**found, "TD-MPC2, episodes": {name: each.reward.sum(1).tolist() for name, each in episodes.items()}}


class Bowl:
    """The model of the package's own tests: the squares of all actions."""

    def get_cost(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """Costs ``[B, N]``."""
        return action_candidates.square().sum((-1, -2))


def bowl(seed: int, quick: bool) -> dict[str, Costs]:
    """Costs of plans of 5 times 6 actions for 20 environments after 1,000 evaluations; the least is 0."""
    torch.manual_seed(seed)
    search, plan = Search(100, 10, 10), PlanConfig(5, 5)
    states = torch.zeros(2 if quick else 20, 17)
    few = WorldModelSolver(Bowl(), _icem(search, 3, plan.horizon, 1.0), lower=-1.0, upper=1.0)
    every = {**theirs(Bowl(), search, seed), **ours(Bowl(), search), "lit-dcem iCEM, three iterations": few}
    plans = {name: _planned(solver, states, plan) for name, solver in every.items()}
    return {"bowl": {name: _cost(Bowl(), states, each, 1.0) for name, each in plans.items()}}


EXAMPLES = {"bowl": bowl, "tdmpc2": tdmpc2}


def _seeded(solver: Any, states: Tensor, seed: int) -> Tensor:
    """Plans ``[B, H, A]`` that begin with the same actions of the model's policy for every solver."""
    torch.manual_seed(seed)
    return _planned(solver, states, PLAN)


def _planned(solver: Any, states: Tensor, plan: PlanConfig) -> Tensor:
    space = gym.spaces.Box(-1, 1, (len(states), ACTION_DIM))
    solver.configure(action_space=space, n_envs=len(states), config=plan)
    with contextlib.redirect_stdout(io.StringIO()):
        return solver.solve({"observation": states})["actions"]


def _cost(cost: Costable, states: Tensor, plans: Tensor, bound: float | None) -> list[float]:
    """Costs of plans, clipped to the bounds of the actions if there is one."""
    plans = plans if bound is None else plans.clamp(-bound, bound)
    return cost.get_cost({"observation": states.unsqueeze(1)}, plans.unsqueeze(1)).squeeze(1).tolist()
