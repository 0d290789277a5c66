"""Plans of TD-MPC2, as stable-worldmodel has it: they begin with its policy, and end with its values."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

from lit_dcem import DCEM
from lit_dcem.adapters.stable_worldmodel import WorldModelSolver


def configure(solver, num_envs):
    config = SimpleNamespace(horizon=4, receding_horizon=1, action_block=1)
    solver.configure(action_space=Box(-1, 1, (num_envs, 2)), n_envs=num_envs, config=config)


@pytest.fixture
def td_mpc2():
    """A model of the package for 2 actions, with random weights: untrained, it would say that all costs are 0."""
    pytest.importorskip("stable_worldmodel")
    from stable_worldmodel.wm.tdmpc2.tdmpc2 import TDMPC2

    class Options(dict):
        __getattr__ = dict.__getitem__

    sizes = Options(
        encoding={"observation": 16}, enc_dim=16, mlp_dim=16, num_q=2, num_bins=21, vmin=-5, vmax=5, tau=0.01
    )
    torch.manual_seed(0)
    model = TDMPC2(Options(wm=sizes, action_dim=2, extra_dims={"observation": 3})).eval()
    for part in (model.reward, *model.qs, model.pi):
        nn.init.normal_(part[-1].weight)
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_td_mpc2_plans_from_its_policy_and_lets_gradients_through(td_mpc2):
    """Its policy continues the actions given, and the best plan is no worse than what the policy says."""
    known, given = {"observation": torch.randn(3, 3)}, torch.full((3, 1, 2), 0.5)
    solver = WorldModelSolver(td_mpc2, DCEM(num_candidates=20, num_elites=5), lower=-1.0, upper=1.0, answer="best")
    configure(solver, 3)
    torch.manual_seed(1)
    policy = torch.cat([given, td_mpc2.get_action(known, horizon=3, prefix_actions=given)], 1)
    torch.manual_seed(1)
    plan = solver.plan(known, given)
    repeated = {"observation": known["observation"].unsqueeze(1)}
    cost, of_policy = (td_mpc2.get_cost(repeated, each.unsqueeze(1)).squeeze(1) for each in (plan.actions, policy))
    torch.testing.assert_close(plan.cost, cost, rtol=1e-4, atol=1e-4)
    assert (plan.cost <= of_policy).all() and (plan.cost < of_policy).any() and plan.actions.abs().max() <= 1
    plan.actions.sum().backward()
    assert all(part[0].weight.grad.norm() > 0 for part in (td_mpc2.dynamics, td_mpc2.reward, td_mpc2.qs[0]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_cem_without_bounds_plans_in_td_mpc2_as_their_solver_does(td_mpc2):
    package = import_module("stable_worldmodel")
    theirs = getattr(package, "solver", None) or package.planning  # where they are after version 0.1.1
    known, found = {"observation": torch.randn(200, 3)}, []
    ours = WorldModelSolver(td_mpc2, DCEM(num_candidates=50, num_elites=10, num_iterations=4, temperature=0.0), std=2.0)
    options = {"num_samples": 50, "topk": 10, "n_steps": 4, "var_scale": 2.0, "batch_size": 200}
    for solver in (ours, theirs.CEMSolver(td_mpc2, **options)):
        configure(solver, 200)
        torch.manual_seed(1)
        actions = solver(known)["actions"].unsqueeze(1)
        found.append(td_mpc2.get_cost({"observation": known["observation"].unsqueeze(1)}, actions).squeeze(1))
    difference = found[0] - found[1]
    assert difference.mean().abs() < 3 * difference.std() / 200**0.5
