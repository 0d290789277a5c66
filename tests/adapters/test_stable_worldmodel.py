"""A solver of stable-worldmodel: on a stand-in for a world model, and (slowly) in the package's own policies."""

import gc
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from lit_dcem import DCEM, UnrolledGD
from lit_dcem.adapters.stable_worldmodel import WorldModelSolver

CEM = DCEM(num_candidates=300, num_elites=40, num_iterations=20, temperature=0.0)


def config(horizon=4, action_block=2):
    return SimpleNamespace(horizon=horizon, receding_horizon=2, action_block=action_block)


def configured(cost, solver=CEM, num_envs=3, actions=2, **options):
    solver = WorldModelSolver(cost, solver, **options)
    solver.configure(action_space=Box(-1, 1, (num_envs, actions)), n_envs=num_envs, config=config())
    return solver


class Reach(nn.Module):
    """Costs the squared distance of all actions from a multiple of each environment's goal."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.encoded = 0

    def get_cost(self, info_dict, action_candidates):
        count = action_candidates.shape[1]
        assert info_dict["goal"].dtype == torch.float64 and info_dict["goal"].shape[1:] == (count, 1)
        assert info_dict["pixels"].shape[1:] == (count, 1, 5) and len(info_dict["name"]) == len(action_candidates)
        if "embedding" not in info_dict:
            self.encoded += 1
            info_dict["embedding"] = self.gain * info_dict["goal"]
        return (action_candidates - info_dict["embedding"][..., None]).square().sum((-1, -2))


GOALS = torch.tensor([[0.5], [-0.25], [0.75]])


def info():
    return {"goal": GOALS, "pixels": np.zeros((3, 1, 5)), "name": ["a", "b", "c"]}


@pytest.mark.parametrize("options", [{}, {"grad_iterations": 2}], ids=["all", "last two"])
def test_what_a_model_stores_keeps_its_gradient(options):
    """The iterations without gradient store an embedding of their own."""
    model = Reach()
    solver = configured(model, DCEM(num_candidates=50, num_elites=5, num_iterations=5, **options))
    solver.plan(info()).actions.sum().backward()
    assert model.gain.grad is not None and model.gain.grad.abs() > 1


def test_actions_reach_the_goal_of_each_environment():
    solver = configured(Reach())
    assert (solver.n_envs, solver.horizon, solver.action_dim) == (3, 4, 4)
    answer = solver(info())
    torch.testing.assert_close(answer["actions"], GOALS.double().view(3, 1, 1).expand(3, 4, 4), atol=0.02, rtol=0)
    assert answer["costs"] == pytest.approx([0, 0, 0], abs=1e-3)


@pytest.mark.parametrize("other", ["reach", 1.0, np.float64(1.0), torch.tensor(1.0), None])
def test_what_is_no_array_does_not_count_the_environments(other):
    answer = configured(Reach())({"about": other, **info()})
    torch.testing.assert_close(answer["actions"], GOALS.double().view(3, 1, 1).expand(3, 4, 4), atol=0.02, rtol=0)


def test_a_model_in_bfloat16_gets_actions_of_its_type():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 1)

        def get_cost(self, info_dict, action_candidates):
            return self.last(action_candidates).square().sum((-1, -2)).float()

    actions = configured(Linear().bfloat16())(info())["actions"]
    assert actions.shape == (3, 4, 4) and actions.isfinite().all()


def test_policies_get_numbers_without_gradients():
    """A policy turns actions into NumPy arrays."""
    answer = configured(Reach(), DCEM(num_iterations=2)).solve(info())
    assert answer["actions"].numpy().shape == (3, 4, 4) and isinstance(answer["costs"][0], float)


@pytest.mark.parametrize("answer", ["mean", "best"])
def test_gradients_reach_the_model(answer):
    def plan(gain):
        solver = DCEM(num_candidates=20, num_elites=4, num_iterations=3, generator=torch.Generator().manual_seed(1))
        model = Reach(gain)
        return model, configured(model, solver, answer=answer).plan(info())

    model, (actions, cost) = plan(0.8)
    assert not (actions.sum() + cost.sum()).isnan()
    (actions.sum() + cost.sum()).backward()
    high, low = (plan(0.8 + step)[1] for step in (1e-6, -1e-6))
    slope = sum((a.sum() - b.sum()).item() for a, b in zip(high, low, strict=True)) / 2e-6
    assert model.gain.grad.item() == pytest.approx(slope, rel=1e-5) and slope != 0


def test_a_solver_without_gradients_builds_no_graph():
    assert not configured(Reach(), CEM).plan(info()).actions.requires_grad


def test_gradient_descent_begins_at_the_given_actions():
    solver = configured(Reach(), UnrolledGD(num_steps=1, lr=0.25))
    first = torch.ones(3, 4, 4)
    actions = solver.plan(info(), first).actions
    torch.testing.assert_close(actions, (first + GOALS.view(3, 1, 1)).double() / 2)


def test_a_plan_is_no_worse_than_the_one_it_begins_from():
    torch.manual_seed(0)
    first = GOALS.view(3, 1, 1).expand(3, 4, 4) + 1e-3
    solver = configured(Reach(), DCEM(num_candidates=10, num_elites=5, num_iterations=1), answer="best")
    assert max(solver(info(), init_action=first)["costs"]) < 17e-6


def test_the_end_of_a_plan_comes_from_the_policy_of_the_model():
    class Actor(Reach):
        def get_action(self, info_dict, horizon, prefix_actions=None):
            self.asked = horizon, None if prefix_actions is None else prefix_actions.shape
            return (self.gain * info_dict["goal"]).view(3, 1, 1).expand(3, horizon, 4)

    model = Actor()
    solver = configured(model, UnrolledGD(num_steps=1, lr=1e-9))
    actions = solver.plan(info(), torch.ones(3, 1, 4)).actions
    assert model.asked == (3, (3, 1, 4))
    torch.testing.assert_close(actions[:, 1:], GOALS.double().view(3, 1, 1).expand(3, 3, 4))
    solver.plan(info())
    assert model.asked == (4, None)


def test_environments_in_batches_are_solved_alike():
    """And a model keeps what it stores of a batch: it encodes once for each number of candidates."""
    model, descent = Reach(), UnrolledGD(num_steps=5, lr=0.1)
    whole, parts = (configured(model, descent, batch_size=size).plan(info()) for size in (None, 1))
    torch.testing.assert_close(whole, parts)
    assert model.encoded == (1 + 3) * 2
    configured(model).solve(info())
    assert model.encoded == 8 + 2


def test_bounds_hold_for_each_action_of_a_block():
    actions = configured(Reach(), lower=[-0.1, -1.0], upper=[0.1, 0.2]).plan(info()).actions
    low, high = torch.tensor([-0.1, -1.0] * 2), torch.tensor([0.1, 0.2] * 2)
    nearest = GOALS.view(3, 1, 1).clamp(low, high).double().expand(3, 4, 4)
    torch.testing.assert_close(actions, nearest, atol=0.02, rtol=0)


def test_bounds_that_are_not_given_are_those_of_the_solver():
    """One that is given leaves the other; searches begin in the middle."""
    solver = configured(Reach(), CEM.replace(lower=-1.0, upper=1.0), lower=-0.5)
    assert (solver.solver.options["lower"], solver.solver.options["upper"]) == (-0.5, 1.0)
    torch.testing.assert_close(solver.start.mean, torch.full((16,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WorldModelSolver(Reach(), CEM, batch_size=0), "batch_size must be at least 1, got 0."),
        (lambda: WorldModelSolver(Reach(), CEM, answer="last"), "answer must be mean or best, got last."),
        (lambda: WorldModelSolver(Reach(), CEM).plan(info()), "A solver must be configured before it plans, got no"),
        (lambda: configured(Reach()).plan(info(), torch.zeros(3, 5, 4)), "B = 3, t at most 4 and A = 4, got [3, 5, 4]"),
        (lambda: configured(Reach()).plan(info(), torch.zeros(2, 4, 4)), "B = 3, t at most 4 and A = 4, got [2, 4, 4]"),
        (
            lambda: configured(Reach()).plan({"name": ["a", "b"]}),
            "array with a row for each environment, got ['name'].",
        ),
        (lambda: configured(Reach(), lower=[0, 0, 0]).plan(info()), "lower must broadcast against [4], got [6]."),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_discrete_actions_are_refused():
    with pytest.raises(ValueError, match=r"action_space must be a Box, got Discrete\(4\)."):
        WorldModelSolver(Reach(), CEM).configure(action_space=Discrete(4), n_envs=1, config=config())


@pytest.fixture
def package():
    return pytest.importorskip("stable_worldmodel")


def solvers_of(package):
    """Where the solvers are: after version 0.1.1, they have moved."""
    return getattr(package, "solver", None) or package.planning


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_policy_of_the_package_controls_its_world(package):
    from stable_worldmodel.policy import PlanConfig, WorldModelPolicy

    class Push(nn.Module):
        def get_cost(self, info_dict, action_candidates):
            assert info_dict["observation"].shape == (2, action_candidates.shape[1], 1, 3)
            return (action_candidates - 0.5).square().sum((-1, -2))

    world = package.World("swm/PendulumDMControl-v0", num_envs=2, add_pixels=False)
    solver = WorldModelSolver(Push(), CEM, lower=-1.0, upper=1.0)
    world.set_policy(WorldModelPolicy(solver=solver, config=PlanConfig(horizon=4, receding_horizon=2, action_block=2)))
    assert isinstance(solver, solvers_of(package).Solver) and (solver.horizon, solver.action_dim) == (4, 2)
    world.reset(seed=0)
    for _ in range(6):
        action = world.policy.get_action(world.infos)
        np.testing.assert_allclose(action, np.full((2, 1), 0.5), atol=0.02)
        *_, world.infos = world.envs.step(action)
    world.close()
    del world
    gc.collect()  # environments of dm_control leave folders behind, of which Python warns when it ends


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_plan_costs_no_more_than_that_of_their_solver(package):
    class Bowl:  # the model of the package's own tests
        def get_cost(self, info_dict, action_candidates):
            return action_candidates.square().sum((-1, -2))

    known, costs = {"pixels": torch.zeros(20, 1)}, []
    ours = WorldModelSolver(Bowl(), DCEM(num_candidates=100, num_elites=10, num_iterations=10, temperature=0.0))
    for solver in (ours, solvers_of(package).CEMSolver(Bowl(), num_samples=100, topk=10, n_steps=10)):
        solver.configure(action_space=Box(-1, 1, (20, 2)), n_envs=20, config=config())
        costs.append(Bowl().get_cost(known, solver(known)["actions"]).mean())
    assert costs[0] <= costs[1]
