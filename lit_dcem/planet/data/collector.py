"""Policies act in environments, and their steps become episodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.envs.policy import Policy, PolicyState
from lit_dcem.envs.vector import Steps, VectorEnv
from lit_dcem.errors import require
from lit_dcem.planet.data.episode import Episode


@dataclass
class Running:
    """An episode that has not ended: observations, actions and rewards so far."""

    observations: list[Tensor]
    actions: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)

    def add(self, observation: Tensor, action: Tensor, reward: Tensor) -> None:
        self.observations.append(observation)
        self.actions.append(action)
        self.rewards.append(reward)

    def ended(self, terminated: bool) -> Episode:
        return Episode(torch.stack(self.observations), torch.stack(self.actions), torch.stack(self.rewards), terminated)

    def state_dict(self) -> dict[str, Any]:
        return {name: list(values) for name, values in vars(self).items()}


class Collected(NamedTuple):
    """One step of every environment."""

    steps: Steps
    finished: list[tuple[int, Episode]]
    """episodes that ended with this step, each with the number of its environment"""
    due: Bool[Tensor, " envs"]
    """environments that had not completed their share of the episodes before this step; all of them without shares"""


class Collector:
    """The one place where a policy steps environments: hands out episodes as they end.

    Its state can be saved in the middle of episodes. An episode whose physics diverged ends as truncated, without the
    step that diverged.

    Args:
        envs: the environments, which only the collector steps from then on; all their episodes start anew.
        exploration_noise: standard deviation of Gaussian noise on the policy's actions, which are in [-1, 1].
    """

    def __init__(self, envs: VectorEnv, exploration_noise: float = 0.0) -> None:
        self.envs = envs
        self.exploration_noise = exploration_noise
        self.plan_seconds = 0.0
        self.environment_seconds = 0.0
        self._running = [Running([observation]) for observation in envs.reset()]
        self._actions = torch.zeros(envs.num_envs, envs.action_dim)
        self._first = torch.ones(envs.num_envs, dtype=torch.bool)
        self._state: PolicyState | None = None

    @property
    def policy_state(self) -> PolicyState | None:
        """The policy's state after its last actions; None before the first."""
        return self._state

    def step(self, policy: Policy | None, generator: torch.Generator | None = None) -> Collected:
        """Step every environment once, and reset those whose episodes ended.

        Args:
            policy: chooses the actions, which are clamped to [-1, 1]; without one they are uniform.
            generator: draws the uniform actions and the exploration noise; the global one by default.
        """
        started = time.perf_counter()
        self._actions = self._uniform(generator) if policy is None else self._chosen(policy, generator)
        planned = time.perf_counter()
        steps = self.envs.step(self._actions)
        finished = self._record(steps)
        # A policy that takes over in the middle of an episode has seen none of it: the episode begins there for it.
        self._first = torch.ones_like(steps.ended) if policy is None else steps.ended
        self.plan_seconds += planned - started
        self.environment_seconds += time.perf_counter() - planned
        return Collected(steps, finished, torch.ones_like(steps.ended))

    def run(self, policy: Policy, num_episodes: int) -> Iterator[Collected]:
        """Step until ``num_episodes`` have ended, and yield every step with the episodes that count.

        Every environment has an equal share of them; where that is impossible, the first ones have one more.
        Environments that have completed their share are stepped on, but their further episodes are left out.
        """
        missing = torch.tensor([len(range(i, num_episodes, self.envs.num_envs)) for i in range(self.envs.num_envs)])
        while missing.any():
            due, collected = missing > 0, self.step(policy)
            finished = [(index, episode) for index, episode in collected.finished if due[index]]
            for index, _ in finished:
                missing[index] -= 1
            yield Collected(collected.steps, finished, due)

    def policy_state_after(self, policy: Policy, steps: Steps) -> PolicyState:
        """The policy's state once it has seen what the latest step led to, the last observations of episodes included.

        The collector itself does not change.
        """
        started = time.perf_counter()
        state = policy(steps.observations, self._actions, torch.zeros_like(steps.ended), self._state)[1]
        self.plan_seconds += time.perf_counter() - started
        return state

    def forget(self) -> None:
        """Drop the policy's state, before another policy takes over."""
        self._state, self._first = None, torch.ones_like(self._first)

    def state_dict(self) -> dict[str, Any]:
        return {
            "envs": self.envs.state_dict(),
            "running": [running.state_dict() for running in self._running],
            "actions": self._actions,
            "first": self._first,
            "policy": self._state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.envs.load_state_dict(state["envs"])
        self._running = [Running(**running) for running in state["running"]]
        self._actions, self._first, self._state = state["actions"], state["first"], state["policy"]

    def _uniform(self, generator: torch.Generator | None) -> Float[Tensor, "envs action"]:
        return 2 * torch.rand(self._actions.shape, generator=generator) - 1

    def _chosen(self, policy: Policy, generator: torch.Generator | None) -> Float[Tensor, "envs action"]:
        observations = torch.stack([running.observations[-1] for running in self._running])
        actions, self._state = policy(observations, self._actions, self._first, self._state)
        actions = actions.cpu().float()
        rule = "A policy must choose finite actions, which diverged networks do not (a lower lr may help)"
        require(bool(actions.isfinite().all()), rule, "NaN or infinity")
        if self.exploration_noise:
            actions = actions + self.exploration_noise * torch.randn(actions.shape, generator=generator)
        return actions.clamp(-1, 1)

    def _record(self, steps: Steps) -> list[tuple[int, Episode]]:
        """Extend the running episodes, and start new ones where they ended."""
        finished = []
        for index, running in enumerate(self._running):
            if not steps.diverged[index]:
                running.add(steps.observations[index], self._actions[index], steps.rewards[index])
            if steps.ended[index] and running.actions:
                finished.append((index, running.ended(bool(steps.terminated[index]))))
        self._restart(steps.ended)
        return finished

    def _restart(self, ended: Bool[Tensor, " envs"]) -> None:
        if ended.any():
            observations = self.envs.reset(ended)
            for index in ended.nonzero().flatten().tolist():
                self._running[index] = Running([observations[index]])
