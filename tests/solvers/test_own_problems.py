"""What people type for problems of their own: it works, or one sentence says what is wrong."""

import re

import pytest
import torch

from lit_dcem import DCEM, ActionDecoder, EmbeddingLoss, Minimizer, Physics, Planner, icem, minimize
from lit_dcem.solvers.cma import CMA
from lit_dcem.solvers.full_gaussian import FullGaussian
from lit_dcem.solvers.weights import LogRank, SoftTopK, TopK

HARD = DCEM(temperature=0.0, num_candidates=10, num_elites=3)


class Point:
    """A point that is pushed, and is best at 0."""

    def step(self, state, action):
        return state + action

    def reward(self, state, action):
        return -state.square().sum(-1)


class Near(Point):
    """Rewarded with a flag."""

    def __init__(self, dtype):
        self.dtype = dtype

    def reward(self, state, action):
        return (state.abs() < 0.5).all(-1).to(self.dtype)


def bowl(points):
    return (points - 0.3).square().sum(-1)


@pytest.mark.parametrize("part", ["answer", "best", "elites"])
@pytest.mark.parametrize("batch", [[], [2, 3]])
def test_the_loss_of_an_embedding_needs_one_batch_dimension(part, batch):
    solution = minimize(bowl, torch.zeros(*batch, 3), weighting=SoftTopK(10), trace=True)
    loss = EmbeddingLoss(**{"answer": 0.0, part: 1.0})
    with pytest.raises(ValueError, match=re.escape(f"EmbeddingLoss must be [B, D], got {[*batch, 3]}.")):
        loss(bowl, solution)


@pytest.mark.parametrize("part", ["answer", "best", "elites"])
def test_the_loss_of_an_embedding_needs_a_search_that_minimizes(part):
    solution = minimize(bowl, torch.zeros(2, 3), weighting=SoftTopK(10), maximize=True, trace=True)
    assert solution.maximize and not minimize(bowl, torch.zeros(2, 3)).maximize
    with pytest.raises(ValueError, match="needs a search that minimizes costs, got maximize=True"):
        EmbeddingLoss(**{"answer": 0.0, part: 1.0})(bowl, solution)


def test_the_loss_of_elites_needs_a_trace():
    with pytest.raises(ValueError, match="A loss of elites needs a search with trace=True, got None"):
        EmbeddingLoss(answer=0.0, elites=1.0)(bowl, minimize(bowl, torch.zeros(2, 3)))


@pytest.mark.parametrize("bounds", [{}, {"lower": -1.0, "upper": 1.0}])
def test_a_planner_takes_no_solver_that_maximizes(bounds):
    with pytest.raises(ValueError, match="maximize of a planner's solver must be false"):
        Planner(Point(), Minimizer(maximize=True), 3, 1, **bounds)


@pytest.mark.parametrize("distribution", [None, FullGaussian()])
def test_negative_weights_are_for_distributions_that_take_them(distribution):
    options = {} if distribution is None else {"distribution": distribution}
    for search in (lambda **given: minimize(bowl, torch.zeros(2), **given), Minimizer):
        with pytest.raises(ValueError, match="Negative weights must come with a distribution that takes them"):
            search(weighting=LogRank(negative=True), **options)
    solution = minimize(
        bowl, torch.zeros(1, 2), weighting=LogRank(negative=True), distribution=CMA(), num_iterations=30
    )
    assert solution.best_value < 1e-4


def test_a_decoder_of_float32_plans_in_a_simulation_of_float64():
    physics, decoder = Physics("cartpole-swingup", num_threads=1), ActionDecoder(2, 2, 1)
    plan = Planner(physics, DCEM(num_candidates=4, num_elites=2, num_iterations=1), 2, 1, decoder=decoder)(
        physics.reset(0)
    )
    assert plan.actions.shape == (1, 2, 1) and plan.actions.isfinite().all()


def test_a_planner_in_bfloat16_takes_a_decoder():
    planner = Planner(Point(), HARD, 3, 1, decoder=ActionDecoder(2, 3, 1)).to(torch.bfloat16)
    assert planner(torch.ones(1, 1, dtype=torch.bfloat16)).actions.isfinite().all()


def test_proposals_and_a_warm_start_must_leave_room():
    planner = Planner(Point(), HARD, 3, 1, proposals=lambda state: torch.zeros(len(state), 9, 3, 1))
    _, memory = planner.act(torch.ones(1, 1))
    rule = "M below num_candidates (10) (of a planner, M counts its proposals and its last plan), got [1, 10, 3]."
    with pytest.raises(ValueError, match=re.escape(rule)):
        planner.act(torch.ones(1, 1), memory)
    scheduled = planner.solver.replace(num_candidates=[11, *[10] * 9])
    wider = Planner(Point(), scheduled, 3, 1, proposals=planner.proposals)
    wider.act(torch.ones(1, 1), wider.act(torch.ones(1, 1))[1])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
@pytest.mark.parametrize("options", [{}, {"discount": 0.9}, {"num_samples": 2}, {"risk": 0.5}])
def test_a_reward_may_be_a_flag_or_a_count(dtype, options):
    plan = Planner([Near(dtype), Near(dtype)], HARD, 3, 1, **options)(torch.ones(1, 1))
    assert plan.value.is_floating_point() and 0 <= plan.value <= 3


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_a_count_can_be_maximized(dtype):
    solution = minimize(lambda points: (points > 0).sum(-1).to(dtype), torch.zeros(1, 2), maximize=True)
    assert solution.best_value == (1 if dtype == torch.bool else 2)


@pytest.mark.parametrize("weighting", [TopK(10.0), SoftTopK(10.0)])
def test_a_number_of_elites_may_be_a_float_without_a_fraction(weighting):
    assert minimize(bowl, torch.zeros(1, 3), weighting=weighting).best_value < 0.1
    assert icem(100, 10.0)(bowl, torch.zeros(1, 3)).best_value < 0.1


def test_a_solver_with_a_temperature_for_each_problem_can_be_printed():
    assert "temperature=tensor" in repr(Minimizer(weighting=SoftTopK(10, torch.ones(2, 1))))


def test_common_noise_needs_a_single_generator():
    generators = [torch.Generator() for _ in range(3)]
    with pytest.raises(ValueError, match="common_noise must come with a single generator, got 3"):
        minimize(bowl, torch.zeros(3, 2), common_noise=True, generator=generators)
