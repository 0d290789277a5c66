"""A value at the end of a planner's horizon: its targets, what it learns and from what, and how far it is trusted."""

from types import SimpleNamespace

import pytest
import torch

from lit_dcem import ValueEnsemble, ValueLearning, WorldModel
from lit_dcem.planet.data.episode import Episode, Sequences, side_by_side
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.phases.value_learning import imagined_windows, lambda_returns, told

SIZES = {"hidden_dim": 8, "num_layers": 1, "rssm": {"deter_dim": 8, "stoch_dim": 3}}
STATES = 5
"""of a random walk, both ends not counted"""


def marks(length=9, batch=6, seed=0):
    """Sequences that run across ends of episodes, some of which are terminated."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(length, batch, generator=generator) < 0.25
    ends = torch.cat([first[1:], torch.rand(1, batch, generator=generator) < 0.5])
    return first, (ends & (torch.rand(length, batch, generator=generator) < 0.5)).float()


def by_hand(rewards, values, first, terminated, discount, td_lambda, t):
    """G of one row, as it is defined."""
    if terminated[t]:
        return 0.0
    if t + 1 == len(rewards) or first[t + 1]:
        return values[t]
    ahead = by_hand(rewards, values, first, terminated, discount, td_lambda, t + 1)
    return rewards[t + 1] + discount * ((1 - td_lambda) * values[t + 1] * (1 - terminated[t + 1]) + td_lambda * ahead)


# Targets


@pytest.mark.parametrize("td_lambda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_targets_are_those_of_a_plain_recursion(td_lambda, seed):
    first, terminated = marks(seed=seed)
    rewards, values = torch.randn(9, 6), torch.randn(2, 9, 6)
    targets = lambda_returns(rewards, values, first, terminated, 0.9, td_lambda)
    for head in range(2):
        for b in range(6):
            column = rewards[:, b], values[head, :, b], first[:, b], terminated[:, b]
            expected = torch.tensor([float(by_hand(*column, 0.9, td_lambda, t)) for t in range(9)])
            torch.testing.assert_close(targets[head, :, b], expected)


def test_targets_in_closed_form():
    rewards, values = torch.randn(6, 2), torch.randn(6, 2)
    ends = torch.zeros(6, 2, dtype=torch.bool), torch.zeros(6, 2)
    far, near = (lambda_returns(rewards, values, *ends, 0.9, td_lambda) for td_lambda in (1.0, 0.0))
    powers = 0.9 ** torch.arange(5).unsqueeze(1)
    torch.testing.assert_close(far[0], (powers * rewards[1:]).sum(0) + 0.9**5 * values[-1])
    torch.testing.assert_close(near[:-1], rewards[1:] + 0.9 * values[1:])
    ends[1][-1] = 1
    torch.testing.assert_close(lambda_returns(rewards, values, *ends, 0.9, 1.0)[0], (powers * rewards[1:]).sum(0))


@pytest.mark.parametrize("td_lambda", [0.0, 0.5, 1.0])
def test_the_true_value_is_its_own_target(td_lambda):
    first = marks()[0]
    true = torch.full((9, 6), 2.0 / (1 - 0.9))
    torch.testing.assert_close(
        lambda_returns(torch.full((9, 6), 2.0), true, first, torch.zeros(9, 6), 0.9, td_lambda), true
    )


def test_nothing_flows_across_episodes_and_cut_off_rows_tell_nothing():
    first, terminated = marks()
    rewards, values = torch.randn(9, 6), torch.randn(9, 6)
    targets = lambda_returns(rewards, values, first, terminated)
    changed = lambda_returns(rewards.masked_fill(first, 1e6), values, first, terminated)
    assert torch.equal(targets, changed)
    mute = ~told(first, terminated)
    assert torch.equal(targets[mute], values[mute]) and mute[:-1].any() and mute[-1].any()
    assert not targets[terminated > 0].any() and terminated.any()


# What it is fitted at


def sequences(first, terminated, seed=0, episode=1):
    torch.manual_seed(seed)
    shape = first.shape
    return Sequences(
        torch.randn(*shape, 3), torch.randn(*shape, 2), torch.randn(shape), terminated, first,
        torch.full(shape, episode),
    )  # fmt: skip


def posteriors_of(model, given):
    return model.rssm.observe_sequence(given.actions, given.observations, first=given.first)[0].belief


def test_windows_are_imagined_under_the_actions_taken_and_end_with_the_episode():
    given, model = sequences(*marks()), WorldModel(3, 2, **SIZES)
    posteriors = posteriors_of(model, given)
    times, columns = torch.tensor([0, 2, 5]), torch.tensor([3, 0, 5])
    torch.manual_seed(1)
    windows = imagined_windows(model, posteriors, given, times, columns, 3)
    torch.manual_seed(1)
    for n, (t, b) in enumerate(zip(times.tolist(), columns.tolist(), strict=True)):
        assert torch.equal(windows.belief.deter[0, n], posteriors.deter[t, b])
        one = Belief(*(part[t, b].unsqueeze(0) for part in posteriors))
        deter, _ = model.rssm.predict(one, given.actions[t + 1, b].unsqueeze(0))
        torch.testing.assert_close(windows.belief.deter[1, n], deter[0])
        inside = [not given.first[t + 1 : t + k + 1, b].any() for k in range(4)]
        assert windows.within[:, n].tolist() == inside and windows.times[:, n].tolist() == list(range(t, t + 4))
    assert not windows.within.all() and windows.within[1:].any()


def parts(**options):
    torch.manual_seed(0)
    value = ValueEnsemble(8, 3, hidden_dim=8, num_layers=1)
    learning = ValueLearning(**{"imagined_steps": 3, "num_windows": 50, **options})
    learning.begin(value)
    return value, learning, WorldModel(3, 2, **SIZES)


@pytest.mark.parametrize("steps", [0, 3, 20])
def test_gradients_reach_the_value_alone(steps):
    value, learning, model = parts(imagined_steps=steps)
    given = sequences(*marks())
    posteriors = posteriors_of(model, given)
    learning.loss(value, model, posteriors, given).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in value.parameters())
    assert all(parameter.grad is None for parameter in [*model.parameters(), *learning.parameters()])


def test_episodes_held_back_do_not_count():
    value, learning, model = parts(held_back=4)
    given, losses = sequences(*marks()), []
    held = torch.arange(6) % 2 == 0
    episode = torch.where(held, 7, 4).expand(9, 6)
    for scale in (1.0, 1e3):
        rewards = torch.where(held, scale * given.rewards, given.rewards)
        torch.manual_seed(1)
        losses.append(
            learning.loss(value, model, posteriors_of(model, given), given._replace(rewards=rewards, episode=episode))
        )
    assert losses[0] == losses[1] > 0
    nothing = given._replace(episode=torch.full_like(given.episode, 3))
    loss = learning.loss(value, model, posteriors_of(model, given), nothing)
    loss.backward()  # zeros, but for every parameter: DDP wants that
    assert loss == 0 and all(parameter.grad is not None for parameter in value.parameters())


def test_the_slow_copy_follows():
    value, learning, _ = parts(target_decay=0.75)
    before = [parameter.clone() for parameter in value.parameters()]
    with torch.no_grad():
        for parameter in value.parameters():
            parameter += 1
    learning.follow(value)
    for slow, old in zip(learning.target.parameters(), before, strict=True):
        torch.testing.assert_close(slow, old + 0.25)


# What it learns


class Walk:
    """Stands for a world model: a belief is a place, one hot, and an action of -1 or 1 goes there."""

    def __init__(self):
        self.rssm = self

    def draw_noise(self, actions):
        return torch.zeros(*actions.shape[:-1], 1)

    def imagine_steps(self, belief, actions, noise):
        place = belief.deter.argmax(-1)
        for action in actions.unbind():
            place = (place + action[..., 0].long()).clamp(0, STATES + 1)
            yield at(place)


def at(place):
    return Belief(torch.nn.functional.one_hot(place, STATES + 2).float(), torch.zeros(*place.shape, 1))


def walk(generator):
    """An episode from the middle to either end; the right one pays 1 (Sutton & Barto, example 6.2)."""
    places, actions = [(STATES + 1) // 2], []
    while 0 < places[-1] <= STATES and len(actions) < 30:
        actions.append(2.0 * torch.randint(2, (1,), generator=generator).item() - 1)
        places.append(places[-1] + int(actions[-1]))
    rewards = torch.tensor([float(place == STATES + 1) for place in places[1:]])
    over = places[-1] in (0, STATES + 1)
    return Episode(torch.tensor(places).float().unsqueeze(1), torch.tensor(actions).unsqueeze(1), rewards, over)


def walks(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return side_by_side([walk(generator) for _ in range(count)])


@pytest.mark.parametrize("td_lambda", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_the_value_of_a_random_walk_is_learned_and_trusted(td_lambda):
    """Without discount it is the chance to end on the right, 1/6 to 5/6."""
    torch.manual_seed(0)
    value = ValueEnsemble(STATES + 2, 1, hidden_dim=16, num_layers=1, pessimistic=False)
    options = {"imagined_steps": 3, "num_windows": 256, "target_decay": 0.9}
    learning = ValueLearning(discount=1.0, td_lambda=td_lambda, **options)
    learning.begin(value)
    given = walks(1000, 1)
    given = given._replace(episode=torch.ones_like(given.episode))
    optimizer = torch.optim.Adam(value.parameters(), 3e-3)
    posteriors = at(given.observations[..., 0].long())
    for _ in range(600):
        learning.follow(value)
        optimizer.zero_grad()
        learning.loss(value, Walk(), posteriors, given).backward()
        optimizer.step()
    chances = torch.arange(1, STATES + 1) / (STATES + 1)
    places = at(torch.arange(STATES + 2))
    torch.testing.assert_close(value.estimate(places)[1:-1], chances, atol=0.1, rtol=0)
    torch.testing.assert_close(value.estimate(places)[[0, -1]], torch.zeros(2), atol=0.1, rtol=0)
    held = walks(100, 2)
    moments = learning.moments(value, Walk(), at(held.observations[..., 0].long()), held, horizon=2)
    learning.trust(value, moments)
    assert 0.2 < learning.accuracy < 0.8  # the walk is random: no value explains all of what follows


# How far it is trusted


def countdown(lengths):
    """Episodes that pay 1 a step until the task is over: what is left is known."""
    made = [Episode(torch.zeros(n + 1, 1), torch.zeros(n, 1), torch.ones(n), True) for n in lengths]
    return side_by_side(made)


class Counting:
    """Stands for a world model: a belief holds the steps that are left."""

    def __init__(self):
        self.rssm = self

    def draw_noise(self, actions):
        return actions

    def imagine_steps(self, belief, actions, noise):
        for _ in actions:
            belief = Belief(belief.deter - 1, belief.stoch)
            yield belief


@pytest.mark.parametrize(("factor", "accuracy"), [(1.0, 1.0), (0.5, 0.75), (0.0, 0.0), (-1.0, -3.0)])
def test_accuracy_is_the_explained_variance_at_the_horizon(factor, accuracy):
    lengths = torch.tensor([9, 6, 12])
    held = countdown(lengths.tolist())
    left = (lengths - torch.arange(13).unsqueeze(1)).float().unsqueeze(-1)
    value, learning, _ = parts(discount=1.0, smoothing=0.5)
    guess = SimpleNamespace(estimate=lambda belief: factor * belief.deter.squeeze(-1) + 7, weight=value.weight)
    learning.target.forward = lambda belief: torch.zeros(2, *belief.deter.shape[:-1])
    moments = learning.moments(guess, Counting(), Belief(left, left), held, horizon=3)
    learning.trust(guess, moments)
    assert learning.accuracy.item() == pytest.approx(accuracy, abs=1e-5)
    assert value.weight.item() == pytest.approx(0.5 * max(accuracy, 0.0), abs=1e-5)
    assert moments[0] == sum(len(range(0, length - 2, 4)) for length in lengths.tolist())


@pytest.mark.parametrize("horizon", [9, 50])
def test_episodes_that_are_over_say_nothing(horizon):
    value, learning, model = parts()
    held = sequences(*(mark[:6] for mark in marks()))
    held.first[:] = True
    learning.trust(value, learning.moments(value, model, posteriors_of(model, held), held, horizon))
    assert value.weight == 0 == learning.accuracy


def test_the_latest_episodes_held_back_are_measured():
    learning = ValueLearning(held_back=10, measured_episodes=3)
    assert [learning.measured(count) for count in (9, 10, 29, 55)] == [[], [9], [9, 19], [29, 39, 49]]


def test_episodes_side_by_side():
    both = countdown([2, 4])
    assert both.rewards.T.tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 1, 1]]
    assert both.terminated.T.tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]
    assert both.first.T.tolist() == [[True, False, False, True, True], [True, False, False, False, False]]
    assert both.actions.shape == both.observations.shape == (5, 2, 1) and both.episode[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discount": 1.1}, "discount must be between 0 and 1, got 1.1"),
        ({"td_lambda": -0.1}, "td_lambda must be between 0 and 1, got -0.1"),
        ({"held_back": 1}, "held_back must be at least 2 and imagined_steps at least 0, got 1 and 6"),
        ({"num_windows": 0}, "num_windows must be at least 1, got 0"),
        ({"imagined_steps": -1}, "held_back must be at least 2 and imagined_steps at least 0, got 10 and -1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        ValueLearning(**options)


@pytest.mark.parametrize("options", [{"num_heads": 0}, {"scale": 0.0}, {"hidden_dim": 0}])
def test_ensembles_that_cannot_be(options):
    with pytest.raises(ValueError, match="must be"):
        ValueEnsemble(**options)
