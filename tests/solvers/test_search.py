"""Solvers are exchangeable, also for one's own, and `Search` says where they begin and what they answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_dcem import DCEM, Iteration, Search, Solution, Solver, UnrolledGD
from lit_dcem.solvers.types import Objective

TARGET = torch.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 0.0]], dtype=torch.float64)


class RandomSearch(Solver):
    """A solver as a user would write it: the best of some draws."""

    def __init__(self, draws: int = 500, trace: bool = False) -> None:
        super().__init__()
        self.draws, self.trace = draws, trace

    def forward(self, objective: Objective, mean: Tensor, std: float | Tensor) -> Solution:
        std = torch.as_tensor(std).to(mean).expand_as(mean)
        points = mean.unsqueeze(1) + std.unsqueeze(1) * torch.randn(len(mean), self.draws, 2).to(mean)
        values = objective(points)
        index = values.nan_to_num(math.inf).argmin(1)
        best, value = points[torch.arange(len(mean)), index], values.amin(1)
        whole = Iteration(mean, std, points, values, torch.ones_like(values))
        return Solution(best, torch.zeros_like(best), value, best, value, (whole,) if self.trace else None)

    @property
    def is_differentiable(self) -> bool:
        return False

    def replace(self, **changes: Any) -> RandomSearch:
        return RandomSearch(**{"draws": self.draws, "trace": self.trace, **changes})

    def traced(self, num_iterations: int | None = None) -> RandomSearch:
        return self.replace(trace=True)


SOLVERS: list[Callable[[], Solver]] = [
    lambda: DCEM(num_candidates=200, num_iterations=15),
    lambda: UnrolledGD(num_steps=40, lr=0.2),
    lambda: RandomSearch(20_000),
]


def bowl(points: Tensor) -> Tensor:
    return (points - TARGET.unsqueeze(1)).square().sum(-1)


@pytest.mark.parametrize("make", SOLVERS)
def test_any_solver_finds_the_optimum_of_each_problem(make: Callable[[], Solver]) -> None:
    torch.manual_seed(0)
    search = Search(make(), initial_std=1.0)
    solution = search.solve(bowl, TARGET.new_zeros(3, 7), 2)
    assert isinstance(search.solver, Solver)
    assert_close(search.answer_of(solution), TARGET, rtol=0, atol=0.1)
    assert solution.trace is None
    assert search.solver.traced(2)(bowl, TARGET * 0, 1.0).trace is not None


@pytest.mark.parametrize("make", SOLVERS)
def test_gradients_reach_the_answer_of_a_differentiable_solver(make: Callable[[], Solver]) -> None:
    torch.manual_seed(0)
    target = TARGET.clone().requires_grad_()
    search = Search(make(), 1.0)
    answer = search.answer_of(search.solve(lambda x: (x - target.unsqueeze(1)).square().sum(-1), TARGET, 2))
    assert answer.requires_grad == search.solver.is_differentiable


def test_a_hard_top_k_is_not_differentiable() -> None:
    assert not DCEM(temperature=0.0).is_differentiable


def test_a_search_begins_at_zero_with_its_deviation_or_at_a_given_mean() -> None:
    search = Search(DCEM(num_iterations=1), initial_std=3.0)
    like = torch.zeros(3, dtype=torch.float64)
    first = search.solve(bowl, like, 2, trace=True).trace
    assert first is not None and torch.equal(first[0].mean, torch.zeros(3, 2, dtype=torch.float64))
    assert torch.equal(first[0].std, torch.full((3, 2), 3.0, dtype=torch.float64))
    moved = search.solve(bowl, like, 2, TARGET, trace=True).trace
    assert moved is not None and torch.equal(moved[0].mean, TARGET)


def test_changes_hold_for_one_search_only() -> None:
    search = Search(DCEM(), 1.0)
    assert len(search.solve(bowl, TARGET, 2, trace=True, num_iterations=3).trace or ()) == 3
    assert search.solve(bowl, TARGET, 2).trace is None
    with pytest.raises(TypeError, match="steps"):
        search.solve(bowl, TARGET, 2, steps=3)


def test_the_answer_is_the_mean_or_the_best_point() -> None:
    solution = Search(DCEM(), 1.0).solve(bowl, TARGET, 2)
    assert Search(DCEM(), 1.0).answer_of(solution) is solution.mean
    assert Search(DCEM(), 1.0, "best").answer_of(solution) is solution.best


def test_another_solver_keeps_the_rest_of_the_search() -> None:
    search, other = Search(DCEM(), 2.0, "best"), UnrolledGD()
    assert search.with_solver(None) is search
    assert search.with_solver(other) == Search(other, 2.0, "best")


@pytest.mark.parametrize("initial_std", [0.0, -1.0, math.inf, math.nan])
def test_deviations_that_cannot_be(initial_std: float) -> None:
    with pytest.raises(ValueError, match=rf"^initial_std must be positive and finite, got {initial_std}\.$"):
        Search(DCEM(), initial_std)


def test_answers_that_there_are_not() -> None:
    with pytest.raises(ValueError, match=r"^answer must be mean or best, got worst\.$"):
        Search(DCEM(), 1.0, "worst")  # pyright: ignore[reportArgumentType]


def test_evaluations_of_the_objective_are_counted() -> None:
    schedule = DCEM(num_candidates=[30, 20], num_elites=5, num_iterations=2)
    for solver, count in ((schedule, 50), (DCEM(), 1000), (UnrolledGD(num_steps=7), 7)):
        assert Search(solver, 1.0).num_evaluations == count
        assert Search(solver, 1.0, "best").num_evaluations == count + 1
    assert Search(RandomSearch(), 1.0).num_evaluations is None


def test_a_horizon_must_divide_the_size_of_an_answer() -> None:
    DCEM(horizon=5).check_dim(10)
    UnrolledGD().check_dim(7)
    with pytest.raises(ValueError, match=r"^horizon of a solver must divide the size of its answers, got 5 and 7\.$"):
        DCEM(horizon=5).check_dim(7)


def test_a_solver_shows_the_options_that_differ_from_the_defaults() -> None:
    assert repr(DCEM(num_elites=3, momentum=0.0, upper=[1.0, 2.0])) == "DCEM(num_elites=3, upper=[1.0, 2.0])"
    assert repr(DCEM(temperature=torch.tensor(1.0))) == "DCEM(temperature=1.0)"


@pytest.mark.parametrize("solver", [DCEM(lower=-1.0, upper=[0.5, 1.0]), UnrolledGD(lower=-1.0, upper=[0.5, 1.0])])
def test_points_are_clamped_to_the_bounds(solver: Solver) -> None:
    assert solver.clamp(torch.tensor([[-2.0, 0.0], [0.75, 3.0]])).tolist() == [[-1.0, 0.0], [0.5, 1.0]]
    assert RandomSearch().clamp(TARGET) is TARGET
