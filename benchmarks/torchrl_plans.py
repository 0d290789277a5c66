"""TorchRL's planners and ours, as policies in two of its examples: the pendulum, and the world model of a docstring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn
from torchrl.data import Composite, Unbounded  # pyright: ignore[reportMissingImports]
from torchrl.envs import EnvBase, PendulumEnv  # pyright: ignore[reportMissingImports]
from torchrl.envs.model_based import ModelBasedEnvBase  # pyright: ignore[reportMissingImports]
from torchrl.modules import (  # pyright: ignore[reportMissingImports]
    MLP,
    CEMPlanner,
    MPPIPlanner,
    SafeModule,
    ValueOperator,
    WorldModelWrapper,
)
from torchrl.objectives.value import TDLambdaEstimator  # pyright: ignore[reportMissingImports]

from lit_dcem import DCEM, Minimizer, icem
from lit_dcem.adapters.torchrl import TorchRLPlanner
from lit_dcem.solvers.cma import CMA
from lit_dcem.solvers.weights import LogRank

Search = tuple[int, int, int]
"""candidates, elites and iterations of a decision"""


class Zero(nn.Module):
    """A value function that leaves MPPI the sum of the rewards."""

    def forward(self, done: Tensor) -> Tensor:
        return torch.zeros(done.shape)


class RandomModel(ModelBasedEnvBase):
    """The world model in the docstring of TorchRL's planners: random weights, and an action without bounds."""

    def __init__(self) -> None:
        dynamics = MLP(out_features=4, activation_class=nn.ReLU, activate_last_layer=True, depth=0)
        keys = ["hidden_observation"]
        dynamics = SafeModule(dynamics, in_keys=[*keys, "action"], out_keys=keys)
        super().__init__(WorldModelWrapper(dynamics, SafeModule(nn.Linear(4, 1), in_keys=keys, out_keys=["reward"])))
        self.state_spec = Composite(hidden_observation=Unbounded((4,)))
        self.observation_spec = Composite(hidden_observation=Unbounded((4,)))
        self.action_spec = Unbounded((1,))
        self.reward_spec = Unbounded((1,))

    def _reset(self, tensordict: TensorDict | None, **_: Any) -> TensorDict:
        shape = () if tensordict is None else tensordict.batch_size
        return TensorDict({"hidden_observation": torch.randn(*shape, 4)}, shape)


def planners(
    env: EnvBase, horizon: int, search: Search, temperature: float
) -> dict[str, Callable[[TensorDict], TensorDict]]:
    """Planners with the same number of evaluations; all begin with a standard deviation of 1."""
    candidates, elites, iterations = search
    sizes: dict[str, Any] = {"num_candidates": candidates, "num_elites": elites, "num_iterations": iterations}
    theirs: dict[str, Any] = {
        "planning_horizon": horizon,
        "optim_steps": iterations,
        "num_candidates": candidates,
        "top_k": elites,
    }
    advantage = TDLambdaEstimator(gamma=1.0, lmbda=1.0, value_network=ValueOperator(Zero(), in_keys=["done"]))
    shrinking = [int(candidates * 1.25**-i) for i in range(iterations)]
    scaled: dict[str, Any] = {**sizes, "num_candidates": candidates * candidates * iterations // sum(shrinking)}
    steps: dict[str, Any] = {"num_candidates": candidates, "num_iterations": iterations, "standardize": False}
    adapting = Minimizer(weighting=LogRank(negative=True), distribution=CMA(), **steps)
    return {
        "TorchRL CEMPlanner": CEMPlanner(env, **theirs),
        "TorchRL MPPIPlanner": MPPIPlanner(env, advantage, temperature, **theirs),
        "lit-dcem CEM": TorchRLPlanner(env, DCEM(temperature=0.0, **sizes), horizon, std=1.0),
        "lit-dcem DCEM, differentiable": TorchRLPlanner(env, DCEM(temperature=0.1, **sizes), horizon, std=1.0),
        "lit-dcem iCEM": TorchRLPlanner(env, icem(noise_exponent=2.0, horizon=horizon, **scaled), horizon, std=1.0),
        "lit-dcem CMA": TorchRLPlanner(env, adapting, horizon, std=1.0),
    }


def pendulum(seed: int, quick: bool) -> dict[str, dict[str, list[float]]]:
    """Returns of episodes of the pendulum, which begin in the same states for all planners.

    MPPI has a temperature of 0.1: at 1, all weights of theirs underflow where all returns are below -100.
    """
    env, episodes, steps = PendulumEnv(seed=seed), 4 if quick else 20, 5 if quick else 80
    torch.manual_seed(seed)
    start = env.reset(env.gen_params(batch_size=[episodes]))
    every = planners(env, 12, (100, 10, 5), 0.1)
    return {"pendulum": {name: _returns(env, each, start, steps, seed) for name, each in every.items()}}


def random_model(seed: int, quick: bool) -> dict[str, dict[str, list[float]]]:
    """Returns of five steps in the docstring's world model, planned as there: 7 candidates, 3 elites, 11 iterations."""
    torch.manual_seed(seed)
    env, episodes = RandomModel(), 4 if quick else 20
    start = env.reset(TensorDict({}, [episodes]))
    env.step(start.clone().set("action", torch.zeros(episodes, 1)))  # makes the lazy layers
    every = planners(env, 10, (7, 3, 11), 1.0)
    return {"docstring": {name: _returns(env, each, start, 5, seed) for name, each in every.items()}}


EXAMPLES = {"docstring": random_model, "pendulum": pendulum}


@torch.no_grad()
def _returns(env: EnvBase, planner: Any, start: TensorDict, steps: int, seed: int) -> list[float]:
    torch.manual_seed(seed + 1000)
    rollout = env.rollout(steps, planner, auto_reset=False, tensordict=start.clone(), break_when_any_done=False)
    return rollout["next", "reward"].sum((1, 2)).tolist()
