"""How well a planner does on the cartpole: the cost of its plans, and the closed loop."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.data.cartpole import BATCH
from lit_dcem.models.cartpole import TIME_STEP, reward, rollout_cost, step

Planner = Callable[[Tensor], Tensor]
"""``planner(states [B, 5]) -> forces [B, H]`` in N, one a time step"""
UPRIGHT = 0.95
"""cos th above which the pole counts as upright: within 18 degrees"""
BALANCED_SECONDS = 2.0
"""how long an episode's end has to be upright throughout"""

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's t with 1, 2, .. degrees of freedom"""


@torch.no_grad()
def plan_costs(
    planner: Planner, states: Float[Tensor, "batch 5"], seeds: Sequence[int]
) -> Float[Tensor, "seeds batch"]:
    """Costs of the planned forces, for each seed of the planner's noise; torch's global noise is left alone."""
    costs = []
    with isolate_rng():
        for seed in seeds:
            torch.manual_seed(seed)
            costs.append(rollout_cost(states, _plan(planner, states).unsqueeze(1)).squeeze(1))
    return torch.stack(costs)


def _plan(planner: Planner, states: Tensor) -> Tensor:
    return torch.cat([planner(batch) for batch in states.split(BATCH)])


@dataclass(frozen=True)
class Episode:
    """B closed loops of T steps side by side."""

    states: Float[Tensor, "times batch 5"]
    """T + 1 of them: the initial ones, and those after each step"""
    forces: Float[Tensor, "steps batch"]
    """as planned [N]; the dynamics clamp them"""
    rewards: Float[Tensor, "steps batch"]

    @property
    def cost(self) -> Float[Tensor, " batch"]:
        """Minus the summed rewards."""
        return -self.rewards.sum(0)

    @property
    def time_upright(self) -> Float[Tensor, " batch"]:
        """Seconds in which the pole was within 18 degrees of upright (cos th > 0.95), of the T steps' ends."""
        return TIME_STEP * self._upright.sum(0)

    @property
    def balanced(self) -> Bool[Tensor, " batch"]:
        """Whether the pole was upright throughout the last 2 s, or the whole of a shorter episode."""
        return self._upright[-round(BALANCED_SECONDS / TIME_STEP) :].all(0)

    @property
    def _upright(self) -> Bool[Tensor, "steps batch"]:
        return self.states[1:, :, 2] > UPRIGHT


@torch.no_grad()
def control(
    planner: Planner,
    states: Float[Tensor, "batch 5"],
    num_steps: int = 200,
    seed: int = 0,
    keep_plans: bool = True,
) -> Episode:
    """Receding horizon: plan, apply the first force, and plan again from the state that follows.

    Args:
        planner: of forces.
        states: initial ones, a closed loop for each.
        num_steps: T, of 0.05 s.
        seed: of the planner's noise; torch's global noise is left alone.
        keep_plans: go on with the rest of the last plan, and no force after it, while no new plan is cheaper; else each
            plan stands for one step only. It costs one trajectory more, and takes the planner's noise out of the loop.

    Raises:
        ValueError: no steps.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    visited, forces, rewards = [states], [], []
    rest: Tensor | None = None
    with isolate_rng():
        torch.manual_seed(seed)
        for _ in range(num_steps):
            state = visited[-1]
            plan = _plan(planner, state)
            if keep_plans and rest is not None:
                plan = _cheaper(state, plan, rest)
            rest = torch.cat([plan[:, 1:], torch.zeros_like(plan[:, :1])], 1)
            visited.append(step(state, plan[:, 0]))
            forces.append(plan[:, 0])
            rewards.append(reward(state, plan[:, 0]))
    return Episode(torch.stack(visited), torch.stack(forces), torch.stack(rewards))


def _cheaper(state: Tensor, plan: Tensor, other: Tensor) -> Tensor:
    """Of two plans ``[B, H]`` the cheaper one for each state."""
    cost = rollout_cost(state, torch.stack([plan, other], 1))
    return torch.where((cost[:, 1] < cost[:, 0]).unsqueeze(1), other, plan)


def bootstrap_interval(values: Float[Tensor, " count"], num_resamples: int = 4000) -> tuple[float, float]:
    """95% interval of the mean, from resamples of the values (percentile bootstrap, with noise of its own)."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(len(values), (num_resamples, len(values)), generator=generator)
    low, high = torch.quantile(values.cpu()[index].mean(1), torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and how far its 95% interval by Student's t reaches either way (NaN for a single value)."""
    count = len(values)
    if count < 2:
        return statistics.fmean(values), math.nan
    return statistics.fmean(values), _t_quantile(count - 1) * statistics.stdev(values) / math.sqrt(count)


def _t_quantile(freedom: int) -> float:
    """97.5% quantile of Student's t: from the table, and beyond it by its expansion about the normal one."""
    if freedom <= len(T_QUANTILES):
        return T_QUANTILES[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
