"""A world model as a model that any planner can plan with."""

import pytest
import torch
from support.planning import ACTIONS, SEARCH, LinearModel, best_actions, place, some_belief, world_model
from torch.testing import assert_close

from lit_dcem import DCEM, ImaginedModel, Planner, WorldModel
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.planning.imagination import imagined_returns

HORIZON = 4


def imagined(model, belief, actions, **options):
    begin = Belief(*(part.unsqueeze(1) for part in belief))
    return imagined_returns(model, begin, actions.permute(2, 0, 1, 3), None, **options)


@pytest.mark.parametrize("termination_weight", [0.0, 1.0])
def test_returns_are_the_imagined_ones(termination_weight):
    torch.manual_seed(0)
    sizes = {"deter_dim": 32, "stoch_dim": 4}
    model = WorldModel(5, ACTIONS, hidden_dim=32, rssm=sizes, termination_weight=termination_weight)
    belief, actions = some_belief(3), torch.randn(3, 6, HORIZON, ACTIONS)
    planner = Planner(ImaginedModel(model), DCEM(), HORIZON, ACTIONS)
    assert_close(planner.returns(belief, actions), imagined(model, belief, actions))


def test_a_value_after_the_horizon_counts_as_imagined():
    class Value:
        weight = 0.5

        def estimate(self, belief):
            return belief.deter.sum(-1)

    value, model, belief = Value(), world_model(), some_belief(3)
    actions = torch.randn(3, 6, HORIZON, ACTIONS)
    options = {"value": lambda last: value.weight * value.estimate(last)}
    planner = Planner(ImaginedModel(model), DCEM(), HORIZON, ACTIONS, **options)
    assert_close(planner.returns(belief, actions), imagined(model, belief, actions, value=value))


def known(observation, action):
    return observation[..., 0] - action.square().sum(-1)


@pytest.mark.parametrize("known_reward", [None, known])
def test_a_rollout_is_steps_and_rewards(known_reward):
    model, belief = ImaginedModel(world_model(), known_reward=known_reward), some_belief(3)
    actions = torch.randn(3, 1, HORIZON, ACTIONS)
    rewards, last = model.rollout(belief, actions)
    for t in range(HORIZON):
        assert_close(rewards[:, 0, t], model.reward(belief, actions[:, 0, t]))
        belief = model.step(belief, actions[:, 0, t])
    assert_close(Belief(*(part[:, 0] for part in last)), belief)


def test_a_known_reward_takes_the_place_of_the_learned_one():
    torch.manual_seed(0)
    model, belief, actions = world_model(), some_belief(3), torch.randn(3, 6, HORIZON, ACTIONS)
    torch.nn.init.constant_(model.reward_head.rest[-1].bias, torch.nan)  # it is not asked
    imagination = ImaginedModel(model, known_reward=known)
    beliefs = model.rssm.imagine(Belief(*(p.unsqueeze(1) for p in belief)), actions.permute(2, 0, 1, 3), sample=False)
    expected = known(model.observation(beliefs), actions.permute(2, 0, 1, 3)).sum(0)
    assert_close(Planner(imagination, DCEM(), HORIZON, ACTIONS).returns(belief, actions), expected)
    plan = Planner(imagination, DCEM(**SEARCH), 3, ACTIONS, lower=-1.0, upper=1.0)(belief)
    nothing = Planner(imagination, DCEM(), 3, ACTIONS).returns(belief, torch.zeros(3, 1, 3, ACTIONS)).squeeze(1)
    assert (plan.value >= nothing - 1e-4).all()


def test_samples_average_to_what_is_expected_of_them():
    torch.manual_seed(0)
    model, belief, actions = world_model(), some_belief(1), torch.randn(1, 2, HORIZON, ACTIONS)
    one, many = (
        Planner(ImaginedModel(model, sample=True), DCEM(), HORIZON, ACTIONS, num_samples=count).returns
        for count in (1, 1000)
    )
    draws = torch.stack([one(belief, actions) for _ in range(300)])
    error = draws.std(0) / 300**0.5 + draws.std(0) / 1000**0.5
    assert (draws.std(0) > 0).all() and ((many(belief, actions) - draws.mean(0)).abs() < 4 * error).all()


def test_the_optimum_of_a_linear_model_is_found():
    belief = place([0.6, -0.3], [0.1, 0.5])
    plan = Planner(ImaginedModel(LinearModel()), DCEM(**SEARCH), 3, ACTIONS, lower=-1.0, upper=1.0)(belief)
    assert_close(plan.actions, best_actions(belief.deter), rtol=0, atol=0.02)
