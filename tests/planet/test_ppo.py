"""PPO's losses as pure functions, against cases worked by hand."""

import math

import pytest
import torch

from lit_dcem.planet.phases import ppo


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def ends(*values):
    return torch.tensor(values, dtype=torch.bool).unsqueeze(1)


def advantages(rewards, values, next_values, terminated=None, truncated=None, discount=0.5, gae_lambda=0.5):
    none = [False] * len(rewards)
    given = column(*rewards), column(*values), column(*next_values), ends(*(terminated or none))
    return ppo.generalized_advantages(*given, ends(*(truncated or none)), discount, gae_lambda).squeeze(1).tolist()


def test_advantages_by_hand():
    # deltas: 1 + 0.5 * 4 - 2 = 1, 2 + 0.5 * 6 - 4 = 1, 3 + 0.5 * 8 - 6 = 1; weights 1, 1/4, 1/16
    assert advantages([1, 2, 3], [2, 4, 6], [4, 6, 8]) == [1 + 1 / 4 + 1 / 16, 1 + 1 / 4, 1]


def test_nothing_follows_the_end_of_the_task():
    # the second step ends the task: its delta is 2 - 4 = -2, and the third belongs to another episode
    assert advantages([1, 2, 3], [2, 4, 6], [4, 100, 8], terminated=[False, True, False]) == [1 - 2 / 4, -2, 1]


def test_a_limit_of_time_is_not_the_end_of_the_task():
    # the second step is cut off: its delta has the value of what would have followed, 2 + 0.5 * 10 - 4 = 3
    assert advantages([1, 2, 3], [2, 4, 6], [4, 10, 8], truncated=[False, True, False]) == [1 + 3 / 4, 3, 1]


@pytest.mark.parametrize(
    ("gae_lambda", "expected"), [(1.0, [1 + 2 + 3 + 8 - 2, 2 + 3 + 8 - 4, 3 + 8 - 6]), (0.0, [3, 4, 5])]
)
def test_limits_of_lambda(gae_lambda, expected):
    """1: returns minus values; 0: one-step errors."""
    assert advantages([1, 2, 3], [2, 4, 6], [4, 6, 8], discount=1.0, gae_lambda=gae_lambda) == expected


def test_advantages_are_as_precise_as_what_they_are_made_of():
    ones, never = torch.ones(200, dtype=torch.float64), torch.zeros(200, dtype=torch.bool)
    found = ppo.generalized_advantages(ones, 0 * ones, 0 * ones, never, never, 0.99, 0.95)[0].item()
    assert found == pytest.approx(sum((0.99 * 0.95) ** t for t in range(200)), abs=1e-10)


def test_columns_are_independent():
    torch.manual_seed(0)
    given = [torch.randn(7, 3) for _ in range(3)] + [torch.rand(7, 3) < 0.2 for _ in range(2)]
    whole = ppo.generalized_advantages(*given)
    for column_index in range(3):
        part = ppo.generalized_advantages(*(each[:, column_index] for each in given))
        assert torch.equal(part, whole[:, column_index])


def test_bad_input_is_one_sentence():
    ok = torch.zeros(3)
    with pytest.raises(ValueError, match="must have one shape, got"):
        ppo.generalized_advantages(ok, ok, torch.zeros(4), ok > 0, ok > 0)
    with pytest.raises(ValueError, match="discount and gae_lambda must be between 0 and 1, got 2 and"):
        ppo.generalized_advantages(ok, ok, ok, ok > 0, ok > 0, discount=2)


def loss(ratio, advantage, clip=0.2):
    one = torch.ones(1, dtype=torch.float64)
    densities = (ratio * one).log().requires_grad_()
    result = ppo.clipped_policy_loss(densities, 0 * one, advantage * one, one > 0, clip)
    result.loss.backward()
    return result, densities.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "moves"),
    [
        (1.0, 3.0, -3.0, True),
        (1.1, 3.0, -3.3, True),
        (1.5, 3.0, -3.6, False),  # better by more than the clip range: enough
        (0.5, 3.0, -1.5, True),  # worse: the way back is open
        (1.5, -3.0, 4.5, True),
        (0.5, -3.0, 2.4, False),
    ],
)
def test_clipped_loss_by_hand(ratio, advantage, value, moves):
    result, gradient = loss(ratio, advantage)
    assert result.loss.item() == pytest.approx(value)
    assert (gradient != 0) == moves
    assert result.clipped.item() == (abs(ratio - 1) > 0.2)
    assert result.ratio.item() == pytest.approx(abs(ratio - 1))


def test_what_does_not_count_has_no_part_even_if_it_is_broken():
    counts = torch.tensor([True, False, True])
    broken = torch.tensor([1.0, math.nan, 3.0])
    assert ppo.mean_of(broken, counts) == 2
    assert ppo.value_loss(broken, torch.zeros(3), counts) == 0.5 * (1 + 9) / 2
    assert torch.allclose(ppo.standardized(broken, counts), torch.tensor([-1.0, 0.0, 1.0]))
    assert ppo.mean_of(broken, counts & False) == 0


def test_density_is_that_of_torch():
    torch.manual_seed(0)
    mean, std, points = torch.randn(5, 3), torch.rand(3) + 0.1, torch.randn(5, 3)
    normal = torch.distributions.Independent(torch.distributions.Normal(mean, std), 1)
    assert torch.allclose(ppo.log_density(points, mean, std), normal.log_prob(points), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_agrees_with_torchrl():
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    torch.manual_seed(0)
    rewards, values, next_values = (torch.randn(40, 3) for _ in range(3))
    terminated, truncated = (torch.rand(40, 3) < 0.1 for _ in range(2))
    ours = ppo.generalized_advantages(rewards, values, next_values, terminated, truncated, 0.97, 0.9)
    batch_first = [each.T.unsqueeze(-1) for each in (values, next_values, rewards, terminated | truncated, terminated)]
    theirs, _ = functional.generalized_advantage_estimate(0.97, 0.9, *batch_first)
    assert torch.allclose(ours, theirs.squeeze(-1).T, atol=1e-5)


def torchrl_losses(policy, critic, std, steps):
    """Of its ClipPPOLoss, for the policy's mean and the value of each belief."""
    modules, objectives = (pytest.importorskip(f"torchrl.{name}") for name in ("modules", "objectives"))
    tensordict = pytest.importorskip("tensordict")
    normal = torch.distributions.Normal
    means = tensordict.nn.TensorDictModule(lambda belief: (policy(belief), std), ["belief"], ["loc", "scale"])
    actor = modules.ProbabilisticActor(
        means,
        in_keys=["loc", "scale"],
        distribution_class=lambda loc, scale: torch.distributions.Independent(normal(loc, scale), 1),
    )
    options = {"clip_epsilon": 0.2, "critic_coeff": 0.5, "loss_critic_type": "l2"}
    loss = objectives.ClipPPOLoss(actor, modules.ValueOperator(critic, ["belief"]), **options)
    return loss(tensordict.TensorDict(steps, [len(steps["belief"])]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_losses_agree_with_torchrl():
    torch.manual_seed(0)
    policy, critic, std = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1), torch.rand(40, 2) + 0.3
    beliefs, actions, advantages, returns = (torch.randn(40, size) for size in (4, 2, 1, 1))
    new = ppo.log_density(actions, policy(beliefs), std)
    old = (new + 0.3 * torch.randn(40)).detach()
    given = {"belief": beliefs, "action": actions, "advantage": advantages, "value_target": returns}
    theirs = torchrl_losses(policy, critic, std, {**given, "action_log_prob": old})
    counts = torch.ones(40, dtype=torch.bool)
    ours = ppo.clipped_policy_loss(new, old, advantages.squeeze(-1), counts)
    assert torch.allclose(ours.loss, theirs["loss_objective"], atol=1e-5)
    assert torch.allclose(ours.clipped, theirs["clip_fraction"], atol=1e-5)
    values = ppo.value_loss(critic(beliefs), returns, counts.unsqueeze(-1))
    assert torch.allclose(values, theirs["loss_critic"], atol=1e-5)
