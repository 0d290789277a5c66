"""Learn what someone wants from how they act: gradients flow through the search to a weight of the cost.

An expert swings a pendulum up and weighs the effort by 0.3, which the learner does not know. The learner plans with a
weight of its own, compares its plans with the expert's actions, and follows the gradient through DCEM. Prints the
weight that it learns::

    python examples/differentiable_mpc.py
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lit_dcem import DCEM, Planner, UnrolledGD

EFFORT, HORIZON, TIME_STEP = 0.3, 10, 0.1


class Pendulum(nn.Module):
    """A state is angle (0 is upright) and angular velocity ``[..., 2]``, an action is a torque ``[..., 1]``."""

    def __init__(self, effort: float) -> None:
        super().__init__()
        self.log_effort = nn.Parameter(torch.tensor(effort).log())

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """The state one time step later."""
        angle, velocity = state.unbind(-1)
        velocity = velocity + TIME_STEP * (5 * angle.sin() + 3 * action[..., 0])
        return torch.stack([angle + TIME_STEP * velocity, velocity], -1)

    def reward(self, state: Tensor, action: Tensor) -> Tensor:
        """Minus the cost of not standing, of moving, and of effort."""
        angle, velocity = state.unbind(-1)
        effort = self.log_effort.exp() * action[..., 0].square()
        return angle.cos() - 0.1 * velocity.square() - effort


def starts(count: int) -> Tensor:
    """Pendulums on their way up."""
    return torch.stack([math.pi * (torch.rand(count) - 0.5), torch.randn(count)], -1)


def main() -> None:
    """Learn, and say what."""
    torch.manual_seed(0)
    states = starts(16)
    descent = UnrolledGD(num_steps=150, lr=0.2)
    expert = Planner(Pendulum(EFFORT), descent, HORIZON, action_dim=1)
    with torch.no_grad():
        shown = expert(states).actions
    learner = Pendulum(1.0)
    solver = DCEM(num_candidates=100, num_elites=20, num_iterations=8, temperature=0.1)
    planner = Planner(learner, solver, HORIZON, action_dim=1, std=1.0)
    optimizer = torch.optim.Adam(planner.parameters(), lr=0.1)
    for update in range(70):
        plan = planner(states)
        loss = (plan.actions - shown).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 10 == 9:
            print(f"update {update + 1}: error {loss.item():.4f}, weight {learner.log_effort.exp().item():.3f}")
    print(f"the weight of effort: {learner.log_effort.exp().item():.3f}, the expert's: {EFFORT}")


if __name__ == "__main__":
    main()
