"""Plan with a model of your own: points are driven around obstacles to a goal.

The model is a class with two methods. Six drives are planned at once, again after every step. Prints how many arrive
and how close they come to an obstacle::

    python examples/planning_with_your_own_model.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_dcem import DCEM, Planner

GOAL = torch.tensor([2.0, 0.0])
OBSTACLES = torch.tensor([[0.0, 0.0], [1.0, 0.7], [1.0, -0.7]])
RADIUS, TIME_STEP = 0.4, 0.1


class PointMass:
    """A state is position and velocity ``[..., 4]``, an action is an acceleration ``[..., 2]``."""

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """The state one time step later."""
        position, velocity = state.chunk(2, -1)
        velocity = velocity + TIME_STEP * action
        return torch.cat([position + TIME_STEP * velocity, velocity], -1)

    def reward(self, state: Tensor, action: Tensor) -> Tensor:
        """Nearer is better, and obstacles are worse than anything."""
        distance = (state[..., :2] - GOAL).norm(dim=-1)
        hits = (clearance(state) < 0.05).float()
        return -distance - 20 * hits - 0.01 * action.square().sum(-1)


def clearance(state: Tensor) -> Tensor:
    """Distance to the nearest obstacle; negative inside."""
    return (state[..., None, :2] - OBSTACLES).norm(dim=-1).amin(-1) - RADIUS


def main() -> None:
    """Drive, and say how it went."""
    torch.manual_seed(0)
    model = PointMass()
    solver = DCEM(num_candidates=150, num_elites=15, num_iterations=4, temperature=0.0, num_kept=3)
    # Six knots stand for 24 actions: smooth drives are found faster. The warm start is from step to step.
    planner = Planner(model, solver, horizon=24, action_dim=2, lower=-1.5, upper=1.5, knots=6, answer="best")
    starts = torch.linspace(-1.0, 1.0, 6)
    state = torch.stack([torch.full_like(starts, -1.5), starts, 0 * starts, 0 * starts], -1)
    memory, closest = None, clearance(state)
    for _ in range(60):
        action, memory = planner.act(state, memory)
        state = model.step(state, action)
        closest = torch.minimum(closest, clearance(state))
    arrived = ((state[:, :2] - GOAL).norm(dim=-1) < 0.1) & (closest > 0)
    print(f"arrived: {arrived.sum()} of {len(arrived)}, clearance at least {closest.min():.3f} m")


if __name__ == "__main__":
    main()
