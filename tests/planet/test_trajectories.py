"""Whole episodes step by step, with what the policy remembered."""

import pytest
import torch

from lit_dcem.envs.vector import Steps
from lit_dcem.planet.data.trajectories import collect


class Counting:
    """Environments whose observation is the number of steps in the episode, plus 100 for each episode."""

    action_dim = 1

    def __init__(self, lengths, terminates=True, diverges=False):
        self.lengths, self.terminates, self.diverges = torch.tensor(lengths), terminates, diverges
        self.num_envs = len(lengths)
        self.episodes, self.times = torch.zeros(self.num_envs), torch.zeros(self.num_envs)
        self.actions = []

    @property
    def observations(self):
        return (100 * self.episodes + self.times).unsqueeze(1)

    def reset(self, where=None):
        where = torch.ones(self.num_envs) > 0 if where is None else where
        self.episodes += where
        self.times = self.times.masked_fill(where, 0)
        return self.observations

    def step(self, actions):
        self.actions.append(actions)
        self.times = self.times + 1
        ended, no = self.times == self.lengths, torch.zeros(self.num_envs) > 0
        kinds = (no, no, ended) if self.diverges else (ended, no, no) if self.terminates else (no, ended, no)
        return Steps(self.observations, self.times.clone(), *kinds)


def policy(observations, actions, first, state):
    """Remembers what it saw, and how often it was called in the episode; wants more than the bounds allow."""
    calls = torch.zeros(len(first)) if state is None else state["calls"]
    calls = calls.masked_fill(first, 0) + 1
    return torch.full((len(first), 1), 3.0), {"seen": observations[:, 0], "calls": calls}


def test_states_and_next_states_of_episodes_of_different_lengths():
    trajectories, episodes, *_ = collect(policy, Counting([2, 3]), 3)
    # The first environment has two episodes of 2 steps; the second one of 3, and a step that does not count.
    assert trajectories.states["seen"].T.tolist() == [[100, 101, 200, 201], [100, 101, 102, 200]]
    assert trajectories.next_states["seen"].T.tolist() == [[101, 102, 201, 202], [101, 102, 103, 201]]
    assert trajectories.states["calls"].T.tolist() == [[1, 2, 1, 2], [1, 2, 3, 1]]
    assert trajectories.terminated.T.tolist() == [[False, True, False, True], [False, False, True, False]]
    assert trajectories.counts.T.tolist() == [[True] * 4, [True, True, True, False]]
    assert trajectories.rewards.T.tolist() == [[1, 2, 1, 2], [1, 2, 3, 1]]
    assert sorted(episode.rewards.sum().item() for episode in episodes) == [3, 3, 6]
    assert all(episode.terminated for episode in episodes)


def test_a_limit_of_time_is_told_from_an_end():
    trajectories, episodes, *_ = collect(policy, Counting([2], terminates=False), 1)
    assert trajectories.truncated.T.tolist() == [[False, True]] and not trajectories.terminated.any()
    assert not episodes[0].terminated


def test_a_step_after_which_physics_diverged_does_not_count():
    trajectories, episodes, *_ = collect(policy, Counting([3], diverges=True), 1)
    assert trajectories.counts.T.tolist() == [[True, True, False]]
    assert trajectories.truncated.T.tolist() == [[False, True, True]]  # so that no advantage reaches beyond it
    assert trajectories.next_states["seen"][1].tolist() == [102]
    assert len(episodes[0].actions) == 2


def test_actions_are_clamped_and_no_noise_is_drawn():
    envs = Counting([2, 2])
    before = torch.get_rng_state()
    collect(policy, envs, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.cat(envs.actions).max() == 1


@pytest.mark.parametrize(("num_envs", "num_episodes"), [(1, 3), (4, 2), (3, 5)])
def test_environments_share_the_episodes(num_envs, num_episodes):
    trajectories, episodes, *_ = collect(policy, Counting([2] * num_envs), num_episodes)
    assert len(episodes) == num_episodes
    assert trajectories.counts.sum() == 2 * num_episodes
