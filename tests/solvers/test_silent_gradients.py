"""Gradients that were silently wrong: of weightings of one's own, of tangents, and of what is recomputed or cached."""

import math

import pytest
import torch
from torch import nn
from torch.func import jvp
from torch.testing import assert_close

from lit_dcem import DCEM, ActionDecoder, Planner, UnrolledGD, dcem, minimize, mppi
from lit_dcem.solvers.cma import CMA
from lit_dcem.solvers.distributions import Gaussian
from lit_dcem.solvers.full_gaussian import FullGaussian
from lit_dcem.solvers.weights import SoftTopK

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.* is deprecated:DeprecationWarning"),
]
DISTRIBUTIONS = {"Gaussian": Gaussian(), "FullGaussian": FullGaussian(), "CMA": CMA()}
WEIGHTINGS = {"exp": torch.exp, "sigmoid": torch.sigmoid, "Softmax": lambda scores: torch.softmax(scores, -1)}
START = torch.tensor([0.3, -0.5], dtype=torch.float64)


def generator():
    return torch.Generator().manual_seed(0)


def wavy(theta):
    return lambda points: ((points - theta).square() + torch.cos(3 * points)).sum(-1)


@pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_a_weighting_of_ones_own_has_the_gradient_of_finite_differences(distribution, weighting):
    options = {"distribution": distribution, "weighting": weighting, "num_iterations": 2, "num_candidates": 30}

    def answer(theta):
        return minimize(wavy(theta), torch.full((2,), 5.0).double(), 1.0, generator=generator(), **options).mean.sum()

    assert torch.autograd.gradcheck(answer, START.clone().requires_grad_(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_a_problem_of_which_nothing_is_chosen_keeps_its_distribution(distribution):
    def some(scores):
        return (scores > 1.0).to(scores)

    mean = torch.full((2, 3), 2.0).requires_grad_()
    plateau = torch.tensor([[0.0], [1.0]])
    found = minimize(
        lambda points: plateau * points.square().sum(-1),
        mean, 1.0, distribution=distribution, weighting=some, num_iterations=3, generator=generator(),
    )  # fmt: skip
    assert_close(found.mean[0], mean[0], rtol=0, atol=0)
    assert found.mean[1].norm() < 0.7 * mean[1].norm()
    found.mean.sum().backward()
    assert mean.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_tangent_has_the_gradient_of_a_second_derivative(temperature):
    direction = torch.ones_like(START)

    def answer(theta):
        options = {"temperature": temperature, "num_iterations": 3, "generator": generator()}
        return dcem(wavy(theta), torch.zeros_like(theta), 1.0, **options).mean.sum()

    theta = START.clone().requires_grad_()
    (over_forward,) = torch.autograd.grad(jvp(answer, (theta,), (direction,))[1], theta)
    _, over_reverse = torch.autograd.functional.hvp(answer, START, direction)
    assert_close(over_forward, over_reverse, rtol=1e-7, atol=1e-9)


def test_tolerance_and_grad_iterations_contradict_each_other():
    with pytest.raises(ValueError, match=r"tolerance must come without grad_iterations, got 5\."):
        minimize(wavy(START), START, weighting=SoftTopK(10, 0.1), tolerance=0.1, grad_iterations=5)


@pytest.mark.parametrize("drawn", [None, generator()], ids=["global", "own"])
def test_what_is_recomputed_may_be_differentiated_again(drawn):
    def jacobian(checkpoint):
        def answer(theta):
            torch.manual_seed(0)
            given = None if drawn is None else drawn.manual_seed(0)
            return dcem(wavy(theta), torch.zeros_like(theta), 1.0, checkpoint=checkpoint, generator=given).mean

        theta = START.clone().requires_grad_()
        mean = answer(theta)
        mean.sum().backward(retain_graph=True)
        mean.sum().backward()
        return theta.grad, torch.autograd.functional.jacobian(answer, START), torch.rand(())

    for recomputed, kept in zip(jacobian(True), jacobian(False), strict=True):
        assert_close(recomputed, kept)


class Speed(nn.Module):
    """Rewards of about 10, in the type of the state."""

    def step(self, state, action):
        return state + 0.1 * action

    def reward(self, state, action):
        return 10 - (state[..., 0] - 0.5).square()


def test_returns_of_rewards_in_bfloat16_are_summed_in_float32():
    planner = Planner(Speed(), DCEM(), 20, 1, lower=-1.0, upper=1.0)
    states, actions = torch.linspace(-0.5, 0.5, 50)[:, None], torch.full((50, 1, 20, 1), 0.3)
    exact = planner.returns(states, actions)
    rough = planner.returns(states.bfloat16(), actions.bfloat16())
    assert rough.dtype == torch.float32
    assert len(rough.unique()) > 10, "sums in bfloat16 have steps of 1 here"
    assert_close(rough, exact, rtol=3e-3, atol=0)


def test_a_temperature_of_each_problem_has_the_type_of_the_search():
    temperature = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    for mean in (torch.zeros(2, 3), torch.zeros(2, 3, device="meta")):
        found = mppi(temperature)(lambda points: points.square().sum(-1), mean).mean
        assert found.dtype == torch.float32 and found.device == mean.device


def test_a_decoder_that_blends_works_in_other_types():
    decoder, rest = ActionDecoder(3, 4, 2, blends_rest=True), torch.zeros(5, 4, 2)
    latent = torch.randn(5, 3)
    exact = decoder(latent, None, rest)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(decoder(latent, None, rest), exact, rtol=0.05, atol=0.05)
    assert_close(decoder(latent.double(), None, rest), exact)
    assert_close(decoder.bfloat16()(latent, None, rest.bfloat16()).float(), exact, rtol=0.1, atol=0.1)


class Broken(nn.Module):
    """An infinite reward of actions near the bound."""

    def step(self, state, action):
        return state + action

    def reward(self, state, action):
        return torch.where(action[..., 0] > 0.9, math.inf, -(state - 0.3).square().sum(-1))


def test_gradient_descent_begins_at_no_broken_proposal():
    def ones(state):
        return torch.ones(len(state), 1, 3, 1)

    planner = Planner(Broken(), UnrolledGD(), 3, 1, lower=-1.0, upper=1.0, proposals=ones)
    assert planner(torch.zeros(1, 1)).actions.isfinite().all()


def test_a_solver_of_ones_own_stays_one_when_options_change():
    class Mine(UnrolledGD):
        pass

    assert type(Mine().replace(lr=0.2)) is Mine
