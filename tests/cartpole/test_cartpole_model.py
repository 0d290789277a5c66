"""The cartpole as a model to plan with."""

import torch
from torch.testing import assert_close

from lit_dcem import DCEM, Planner
from lit_dcem.cartpole.dynamics import Cartpole, rollout_cost

STATES = torch.tensor([[0.1, 0.0, 0.8, 0.6, 0.3], [-0.5, 1.0, -0.6, -0.8, -2.0]], dtype=torch.float64)
CEM = DCEM(num_candidates=100, num_iterations=8, temperature=0.0)


def test_returns_are_minus_the_cost_of_rollouts():
    forces = 30 * torch.randn(2, 7, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    returns = Planner(Cartpole(), CEM, 20, 1).returns(STATES, forces.unsqueeze(-1))
    assert_close(returns, -rollout_cost(STATES, forces))


def test_a_plan_is_what_the_solver_finds_for_that_cost():
    planner = Planner(Cartpole(), CEM, 20, 1, lower=-20.0, upper=20.0, std=10.0)
    plan = planner(STATES, generator=torch.Generator().manual_seed(0))
    solver = CEM.replace(lower=-20.0, upper=20.0, generator=torch.Generator().manual_seed(0))
    solution = solver(lambda forces: rollout_cost(STATES, forces), STATES.new_zeros(2, 20), 10.0)
    assert_close(plan.actions.squeeze(-1), solution.mean)
    assert_close(plan.value, -solution.value)
