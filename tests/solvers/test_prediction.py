"""What a planner asks of a model, how often, and what it makes of the answers."""

import pytest
import torch
from torch.testing import assert_close

from lit_dcem import DCEM, Planner, mppi
from lit_dcem.solvers.prediction import Returns

STATE = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [0.2, -1.0]])
ACTIONS = torch.linspace(-1, 1, 3 * 7 * 4).view(3, 7, 4, 1)


class Mass:
    """A point mass that counts: how many candidates each call was about."""

    def __init__(self) -> None:
        self.steps, self.rewards = [], []

    def step(self, state, action):
        self.steps.append(action.shape[1])
        position, velocity = state.unbind(-1)
        return torch.stack([position + 0.1 * velocity, velocity + 0.1 * action[..., 0]], -1)

    def reward(self, state, action):
        self.rewards.append(action.shape[1])
        return -state.square().sum(-1) - 0.1 * action.square().sum(-1)


@pytest.mark.parametrize(
    ("solver", "iterations"), [(mppi(num_candidates=50), 1), (DCEM(num_candidates=50, num_iterations=2), 2)]
)
def test_a_plan_takes_one_rollout_for_each_iteration_and_one_for_the_answer(solver, iterations):
    model = Mass()
    planner = Planner(model, solver, 4, 1)
    _, memory = planner.act(STATE)
    planner.act(STATE, memory)  # a warm start takes no more
    once = [*[50] * iterations, 1]
    assert model.rewards == 2 * [count for count in once for _ in range(4)]
    assert model.steps == 2 * [count for count in once for _ in range(3)]  # the last action is rewarded before its step


def test_the_value_of_a_plan_belongs_to_the_model_as_it_was():
    class Drifting(Mass):
        push = 1.0

        def step(self, state, action):
            return super().step(state, self.push * action)

    model = Drifting()
    plan = Planner(model, mppi(num_candidates=50), 4, 1)(STATE)
    expected = Returns([model])(STATE, plan.actions.unsqueeze(1)).squeeze(1)
    asked = len(model.rewards)
    model.push = 100.0  # as training between two plans would change it
    assert_close(plan.value, expected)
    assert_close(-plan.solution.value, expected)
    assert len(model.rewards) == asked  # reading asks nothing of the model


def test_one_outcome_is_its_own_mean():
    single = Returns([Mass()])(STATE, ACTIONS)
    assert torch.equal(single, Returns([Mass(), Mass()])(STATE, ACTIONS))
    assert torch.equal(single, Returns([Mass()], num_samples=2)(STATE, ACTIONS))
    assert torch.equal(single, Returns([Mass()], risk=0.5)(STATE, ACTIONS))


def test_a_model_whose_rollout_is_none_is_stepped():
    class WithoutRollout(Mass):
        rollout = None

    assert torch.equal(Returns([WithoutRollout()])(STATE, ACTIONS), Returns([Mass()])(STATE, ACTIONS))


def test_a_reward_of_another_shape_is_refused_at_any_step():
    class Widening(Mass):
        def step(self, state, action):
            return super().step(state, action).unsqueeze(0)

    rule = r"reward of a model must return numbers of shape \[3, 7\].* got \[1, 3, 7\]\."
    with pytest.raises(ValueError, match=rule):
        Returns([Widening()])(STATE, ACTIONS)


def test_an_objective_of_another_shape_or_type_is_refused():
    for objective, got in ((lambda points: points, r"\[3, 5, 2\]"), (lambda points: 1.0, "float")):
        with pytest.raises(ValueError, match=rf"objective must return one value per candidate, got {got} for"):
            mppi(num_candidates=5)(objective, STATE, torch.ones_like(STATE))
