"""Options that learn belong to their solver: optimizers, devices, copies and checkpoints find them."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from lit_dcem import DCEM, Minimizer, Planner, mppi
from lit_dcem.solvers.weights import SoftTopK

SMALL = {"num_candidates": 20, "num_iterations": 3}


def temperature():
    return nn.Parameter(torch.tensor(0.5))


SOLVERS = {
    "DCEM": lambda option: DCEM(temperature=option, num_elites=4, **SMALL),
    "SoftTopK": lambda option: Minimizer(weighting=SoftTopK(4, option), **SMALL),
    "mppi": lambda option: mppi(option, **SMALL),
}
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


class Sharpest(nn.Module):
    """A weighting of one's own, with a parameter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, scores):
        return torch.softmax(scores * self.scale, -1)


class Point:
    def step(self, state, action):
        return state + action

    def reward(self, state, action):
        return -(state - 0.3).square().sum(-1)


def bowl(points):
    return (points - 0.3).square().sum(-1)


@every_solver
def test_an_optimizer_learns_a_temperature(solver):
    solver = solver(temperature())
    (learned,) = solver.parameters()
    optimizer = torch.optim.SGD(solver.parameters(), lr=1.0)
    answers = []
    for _ in range(2):
        torch.manual_seed(0)
        solution = solver(bowl, torch.zeros(2, 3), 1.0)
        answers.append(solution.mean.detach())
        optimizer.zero_grad()
        solution.value.sum().backward()
        optimizer.step()
    assert learned.item() != 0.5 and not torch.equal(*answers)


@every_solver
def test_a_planner_has_the_temperature_of_its_solver(solver):
    option = temperature()
    planner = Planner(Point(), solver(option), 2, 1, lower=-1.0, upper=1.0)
    assert [id(each) for each in planner.parameters()] == [id(option)]
    planner(torch.zeros(2, 1)).value.sum().backward()
    assert option.grad is not None and option.grad.isfinite() and option.grad != 0


@every_solver
def test_checkpoints_and_copies_hold_a_temperature(solver):
    ours, theirs = solver(nn.Parameter(torch.tensor(2.0))), solver(temperature())
    copied = copy.deepcopy(theirs)
    assert len(theirs.state_dict()) == 1
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(0)
    wanted = ours(bowl, torch.zeros(1, 3), 1.0).mean
    torch.manual_seed(0)
    assert_close(theirs(bowl, torch.zeros(1, 3), 1.0).mean, wanted, rtol=0, atol=0)
    (kept,) = copied.parameters()
    assert kept.item() == 0.5, "a copy has a temperature of its own"
    torch.manual_seed(0)
    assert not torch.equal(copied(bowl, torch.zeros(1, 3), 1.0).mean, wanted)
    ours.double()
    assert {each.dtype for each in ours.parameters()} == {torch.float64}


def answer(solver):
    torch.manual_seed(0)
    return solver(bowl, torch.zeros(1, 3), 1.0).mean


@every_solver
def test_functional_call_replaces_a_temperature(solver):
    ours, (name,) = solver(temperature()), dict(solver(temperature()).named_parameters())
    replacement = torch.tensor(2.0, requires_grad=True)
    torch.manual_seed(0)
    replaced = functional_call(ours, {name: replacement}, (bowl, torch.zeros(1, 3), 1.0)).mean
    assert_close(replaced, answer(solver(torch.tensor(2.0))), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(replaced.sum(), replacement)
    assert gradient.isfinite() and gradient != 0
    assert_close(answer(ours), answer(solver(torch.tensor(0.5))), rtol=0, atol=0)


@every_solver
def test_a_checkpoint_may_assign_a_temperature(solver):
    ours = solver(temperature())
    (name,) = ours.state_dict()
    ours.load_state_dict({name: torch.tensor(2.0)}, assign=True)
    assert_close(answer(ours), answer(solver(torch.tensor(2.0))), rtol=0, atol=0)
    assert_close(answer(ours.replace(num_kept=0)), answer(ours), rtol=0, atol=0)


def test_a_weighting_with_parameters_is_part_of_its_solver():
    solver = Minimizer(weighting=Sharpest(), **SMALL)
    assert [name for name, _ in solver.named_parameters()] == ["learned.weighting.scale"]
    solver(bowl, torch.zeros(2, 3), 1.0).value.sum().backward()
    assert solver.options["weighting"].scale.grad.abs() > 0


@every_solver
def test_numbers_and_tensors_are_not_learned(solver):
    for option in (0.5, torch.tensor(0.5), torch.tensor([[0.5], [1.0]])):
        assert not list(solver(option).parameters()) and not solver(option).state_dict()
