"""Acting in environments: steps become episodes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.envs.policy import Policy, PolicyState
from lit_dcem.envs.vector import Steps, VectorEnv
from lit_dcem.planet.data.episode import Episode


@dataclass
class Running:
    """An episode that has not ended: what was observed, done and got so far."""

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


class Collector:
    """Steps environments with a policy, and hands out episodes as they end; its state goes on in their middle.

    A step after which the physics diverged is not part of its episode, which counts as cut off before it.

    Args:
        envs: the environments, which only the collector steps from then on.
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
        """What the policy remembered after its last actions; None before the first."""
        return self._state

    def step(self, policy: Policy | None, generator: torch.Generator | None = None) -> list[tuple[int, Episode]]:
        """One step of every environment; return what ended, with the number of its environment.

        Without a policy actions are uniform. The generator is of these, and of the exploration noise.
        """
        started = time.perf_counter()
        self._actions = self._uniform(generator) if policy is None else self._chosen(policy, generator)
        planned = time.perf_counter()
        steps = self.envs.step(self._actions)
        finished = self._record(steps)
        # An episode that the policy enters in its middle begins there, for the policy.
        self._first = torch.ones_like(steps.ended) if policy is None else steps.ended
        self.plan_seconds += planned - started
        self.environment_seconds += time.perf_counter() - planned
        return finished

    def forget(self) -> None:
        """What the policy remembers is of no use to the one that acts from now on."""
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
