"""Trajectories of a policy with its state at every step, from which on-policy methods learn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.envs.policy import Policy, PolicyState, replaced
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.planet.data.collector import Collected, Collector
from lit_dcem.planet.data.episode import Episode

MEMORY = torch.device("cpu")
"""where trajectories are kept"""


class Trajectories(NamedTuple):
    """T steps of E environments, from the beginning of an episode each."""

    states: PolicyState
    """``[T, E, ...]``: the policy's state after it chose action t"""
    next_states: PolicyState
    """``[T, E, ...]``: the policy's state at the observation that action t led to, even if the episode ended there"""
    rewards: Float[Tensor, "time envs"]
    terminated: Bool[Tensor, "time envs"]
    """the step ended the task"""
    truncated: Bool[Tensor, "time envs"]
    """the episode was cut off after the step: by a time limit, or because the physics diverged in the next one"""
    counts: Bool[Tensor, "time envs"]
    """false for steps beyond an environment's share of the episodes, and where the physics diverged"""


class Collection(NamedTuple):
    """Trajectories, their episodes, and the time they took."""

    trajectories: Trajectories
    episodes: list[Episode]
    """in the order in which they ended, without those beyond an environment's share"""
    plan_seconds: float
    environment_seconds: float


@torch.no_grad()
def collect(policy: Policy, envs: VectorEnv, num_episodes: int) -> Collection:
    """Run new episodes, an equal share in each environment, and keep the policy's state at every step.

    Args:
        policy: acts; its actions are clamped to [-1, 1].
        envs: all their episodes start anew.
        num_episodes: how many; where environments do not share them equally, the first ones run one more.
    """
    collector, record = Collector(envs), _Record()
    episodes: list[Episode] = []
    for collected in collector.run(policy, num_episodes):
        record.add(collector, policy, collected)
        episodes += [episode for _, episode in collected.finished]
    return Collection(record.trajectories(), episodes, collector.plan_seconds, collector.environment_seconds)


class _Record:
    """Collects the steps of all environments one by one, and turns them into `Trajectories`."""

    def __init__(self) -> None:
        self.states: list[PolicyState] = []
        self.ends: dict[int, PolicyState] = {}
        self.outcomes: list[tuple[Tensor, ...]] = []

    def add(self, collector: Collector, policy: Policy, collected: Collected) -> None:
        """Add a step and, where it ended an episode, the policy's state at the last observation."""
        assert collector.policy_state is not None
        self.states.append(_kept(collector.policy_state))
        steps = collected.steps
        counts = collected.due & ~steps.diverged
        self.outcomes.append((steps.rewards, steps.terminated, steps.truncated, steps.diverged, counts))
        if steps.ended.any():
            self.ends[len(self.states) - 1] = _kept(collector.policy_state_after(policy, steps))

    def trajectories(self) -> Trajectories:
        """Everything stacked over time."""
        outcomes = (torch.stack(each) for each in zip(*self.outcomes, strict=True))
        rewards, terminated, truncated, diverged, counts = outcomes
        ended = terminated | truncated | diverged
        # A step that diverged tells nothing about the task, so the episode counts as cut off after the step before it.
        truncated = truncated | diverged
        truncated[:-1] |= diverged[1:] & ~ended[:-1]
        states, following = _stacked(self.states), _stacked(self._following(ended))
        return Trajectories(states, following, rewards, terminated, truncated, counts)

    def _following(self, ended: Bool[Tensor, "time envs"]) -> list[PolicyState]:
        """The state after each step: the one of the next step or, at the end of an episode, of its last observation."""
        following = [*self.states[1:], self.ends[len(self.states) - 1]]  # the last step ended an episode
        for t, end in self.ends.items():
            following[t] = replaced(following[t], ended[t], end)
        return following


def _kept(state: PolicyState) -> PolicyState:
    return {name: tensor.to(MEMORY) for name, tensor in state.items()}


def _stacked(states: list[PolicyState]) -> PolicyState:
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}
