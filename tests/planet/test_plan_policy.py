"""The stochastic policy around a planner that keeps plans: what PPO computes again, and what learns from it."""

import dataclasses

import pytest
import torch
from support.phase3 import module

from lit_dcem.planet.data.trajectories import Trajectories

TIMES, ENVS = 12, 3


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def collected(phase):
    """Steps of a policy that sees noise; the second environment begins anew in the middle."""
    policy, state = phase.policy_learning.exploring.with_seed(0), None
    generator, states = torch.Generator().manual_seed(2), []
    for time in range(TIMES):
        first = torch.tensor([time == 0, time in (0, 6), time == 0])
        observations = torch.randn(ENVS, 3, generator=generator)
        action = state["sample"] if state else torch.zeros(ENVS, 1)
        state = policy(observations, action, first, state)[1]
        states.append(state)
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    none = torch.zeros(TIMES, ENVS)
    rewards = torch.randn(TIMES, ENVS, generator=generator)
    trajectories = Trajectories(stacked, stacked, rewards, none > 0, none > 0, none == 0)
    return phase.policy_gradient.prepare(trajectories)


def keeping():
    solver = {"num_candidates": 8, "num_elites": 3, "num_iterations": 2, "temperature": 1.0}
    phase = module(planner={"keep_plans": True}, solver=solver, learner={"clip": 1e6})
    phase.policy_learning = dataclasses.replace(phase.policy_learning, seed=lambda: 5)
    with torch.no_grad():
        for parameter in phase.world_model.parameters():
            parameter *= 3  # what is seen changes which plan is better
    return phase


def loss_of(phase, steps):
    return phase.policy_gradient.policy_loss(steps, phase.policy_learning.exploring.new_plan)


def test_kept_plans_are_computed_again_from_where_they_began():
    phase = keeping()
    steps = collected(phase)
    assert 0.1 < (steps.age > 0).double().mean() < 0.9 and steps.age.max() > 1
    assert (steps.age[[0, 6], [0, 1]] == 0).all()  # no plan outlives its episode
    assert loss_of(phase, steps).kl == 0


def test_a_decision_that_kept_its_plan_has_a_gradient():
    phase = keeping()
    steps = collected(phase)
    kept = steps._replace(counts=steps.age > 0)
    weight = phase.planner.decoder.get_parameter("layers.0.weight")
    (gradient,) = torch.autograd.grad(loss_of(phase, kept).policy.loss, weight)
    values = []
    with torch.no_grad():
        for change in (1e-6, -2e-6):
            weight[0, 0] += change
            values.append(loss_of(phase, kept).policy.loss.item())
    assert gradient.abs().max() > 0
    assert gradient[0, 0].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_means_do_not_jump_where_another_plan_would_be_kept():
    phase = keeping()
    steps = collected(phase)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in phase.planner.decoder.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    again = collected(phase)  # other choices, since they compare what plans promise
    assert (again.age != steps.age).any()
    assert 0 < loss_of(phase, steps).kl < 0.01 < loss_of(phase, again._replace(mean=steps.mean)).kl
