"""Acting in environments: episodes as they end, states in their middle, evaluations of whole episodes."""

import numpy as np
import torch

from lit_dcem.envs.make import make
from lit_dcem.envs.simulation import DivergenceError
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.planet.data.collector import Collector
from lit_dcem.planet.data.evaluation_episodes import evaluate_episodes


class Counter:
    """Counts its steps; an episode ends at the given one, in the given way."""

    observation_dim = 1
    lower, upper = np.array([-1.0]), np.array([1.0])
    time_limit = None

    def __init__(self, ends, how="truncated"):
        self.ends, self.how = ends, how

    def reset(self, seed):
        self.count = 0
        return np.zeros(1)

    def step(self, action):
        self.count += 1
        at_end = self.count == self.ends
        if at_end and self.how == "diverged":
            raise DivergenceError
        return np.array([self.count]), 1.0, at_end and self.how == "terminated", at_end and self.how == "truncated"


class Recorder:
    """A policy that keeps what it is told, and counts its calls in its state."""

    def __init__(self, action=0.0):
        self.action, self.firsts, self.actions = action, [], []

    def __call__(self, observations, actions, first, state):
        self.firsts.append(first.tolist())
        self.actions.append(actions.flatten().tolist())
        calls = torch.zeros(len(first)) if state is None else state["calls"] + 1
        return torch.full((len(first), 1), self.action), {"calls": calls}


def episodes_of(collector, steps, policy=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [each for _ in range(steps) for each in collector.step(policy, generator).finished]


def test_steps_become_episodes():
    collector = Collector(VectorEnv([Counter(3), Counter(2, "terminated")]))
    finished = episodes_of(collector, 6)
    assert [index for index, _ in finished] == [1, 0, 1, 0, 1]
    first, second = finished[1][1], finished[0][1]
    assert first.observations.flatten().tolist() == [0, 1, 2, 3] and first.rewards.tolist() == [1, 1, 1]
    assert (first.terminated, second.terminated) == (False, True)
    assert first.actions.shape == (3, 1) and (first.actions.abs() <= 1).all()


def test_a_diverged_step_is_not_part_of_its_episode():
    collector = Collector(VectorEnv([Counter(3, "diverged"), Counter(1, "diverged")]))
    finished = episodes_of(collector, 7)
    assert [index for index, _ in finished] == [0, 0], "what diverges at once is no episode"
    episode = finished[0][1]
    assert episode.observations.flatten().tolist() == [0, 1, 2] and len(episode.actions) == 2
    assert not episode.terminated
    assert collector.envs.num_diverged == 2 + 7


def test_the_policy_hears_of_beginnings_and_of_what_was_done():
    collector, policy = Collector(VectorEnv([Counter(2), Counter(3)]), exploration_noise=0.5), Recorder(0.8)
    episodes_of(collector, 2)
    finished = episodes_of(collector, 4, policy)
    assert policy.firsts == [[True, True], [False, True], [True, False], [False, False]]
    done = next(episode.actions.flatten().tolist() for index, episode in finished if index == 0)
    assert [actions[0] for actions in policy.actions[1:3]] == done
    assert max(done) <= 1 and len(set(done)) == 2, "noise, within the bounds"


def test_noise_comes_from_the_generator_alone():
    def actions(seed):
        collector = Collector(VectorEnv([Counter(5)]), exploration_noise=0.3)
        return episodes_of(collector, 5, Recorder(), seed)[0][1].actions

    before = torch.get_rng_state()
    assert torch.equal(actions(1), actions(1)) and not torch.equal(actions(1), actions(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_state_goes_on_bit_for_bit(tmp_path):
    def collector():
        return Collector(make("Pendulum-v1", 2, 40, seed=3), exploration_noise=0.3)

    whole, policy = collector(), Recorder(0.3)
    episodes_of(whole, 3, policy)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    rest = episodes_of(whole, 6, policy, seed=1)
    resumed = collector()
    resumed.load_state_dict(state)
    again = episodes_of(resumed, 6, policy, seed=1)
    assert [index for index, _ in rest] == [index for index, _ in again] and len(rest) >= 2
    for (_, ours), (_, theirs) in zip(rest, again, strict=True):
        assert torch.equal(ours.observations, theirs.observations) and torch.equal(ours.rewards, theirs.rewards)
    assert torch.equal(whole.policy_state["calls"], resumed.policy_state["calls"])


def test_evaluation_shares_episodes_whatever_their_lengths():
    evaluation = evaluate_episodes(Recorder(), VectorEnv([Counter(5), Counter(2), Counter(3)]), 7)
    assert evaluation.returns.tolist() == [5, 5, 5, 2, 2, 3, 3]
    assert evaluation.observations.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert len(evaluation.actions) == len(evaluation.rewards) == 5 and not len(evaluation.frames)
    assert evaluation.seconds_per_decision > 0


def test_evaluation_has_no_noise_but_that_of_the_policy():
    def noisy(seed):
        generator = torch.Generator().manual_seed(seed)
        return lambda observations, *_: (torch.rand(len(observations), 1, generator=generator) * 2 - 1, {})

    before = torch.get_rng_state()
    returns = [evaluate_episodes(noisy(seed), make("Pendulum-v1", 2, 20, seed=1), 2).returns for seed in (0, 0, 1)]
    assert torch.equal(returns[0], returns[1]) and not torch.equal(returns[0], returns[2])
    assert torch.equal(torch.get_rng_state(), before)
