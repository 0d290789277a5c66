"""How well a planner does on the cartpole: the cost of its plans, and the closed loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.cartpole.dynamics import TIME_STEP, reward, rollout_cost, step
from lit_dcem.cartpole.states import BATCH

Planner = Callable[[Tensor], Tensor]
"""``planner(states [B, 5]) -> forces [B, H]`` in N, one a time step"""
UPRIGHT = 0.95
"""cos th above which the pole counts as upright: within 18 degrees"""
BALANCED_SECONDS = 2.0
"""the pole must stay upright for this long at the end of an episode"""


@torch.no_grad()
def plan_costs(
    planner: Planner, states: Float[Tensor, "batch 5"], seeds: Sequence[int]
) -> Float[Tensor, "seeds batch"]:
    """Costs of the planned forces, for each seed of the planner's noise; torch's global random state is preserved."""
    costs = []
    with isolate_rng():  # a planner of your own draws from the global generator
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
    """the T + 1 states: the initial one, and the one after each step"""
    forces: Float[Tensor, "steps batch"]
    """as planned [N], before the dynamics clamp them"""
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
    """Receding horizon control: plan, apply the first force, and plan again from the next state.

    Args:
        planner: plans forces.
        states: initial states, one closed loop each.
        num_steps: T, number of steps of 0.05 s.
        seed: of the planner's noise; torch's global random state is preserved.
        keep_plans: continue the last plan, with no force after its end, until a new plan is cheaper. If false, only the
            first force of each plan is used. Costs one trajectory per step, and keeps the planner's noise out of the
            loop.

    Raises:
        ValueError: ``num_steps`` below 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    visited, forces, rewards = [states], [], []
    rest: Tensor | None = None
    with isolate_rng():  # a planner of your own draws from the global generator
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
