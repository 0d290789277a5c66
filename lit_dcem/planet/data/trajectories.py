"""Whole episodes of a policy, step by step, with all that the policy remembered: what on-policy methods learn from."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.envs.policy import Policy, PolicyState
from lit_dcem.envs.vector import Steps, VectorEnv
from lit_dcem.planet.data.collector import Running
from lit_dcem.planet.data.episode import Episode

MEMORY = torch.device("cpu")
"""where trajectories are kept"""


class Trajectories(NamedTuple):
    """T steps of E environments, from the beginning of an episode each."""

    states: PolicyState
    """``[T, E, ...]``: what the policy remembered when it had chosen action t"""
    next_states: PolicyState
    """``[T, E, ...]``: the same of the observation that action t led to, also where the episode ended there"""
    rewards: Float[Tensor, "time envs"]
    terminated: Bool[Tensor, "time envs"]
    """the task was over"""
    truncated: Bool[Tensor, "time envs"]
    """the episode was cut off: by a limit of time, or before a step after which the physics diverged"""
    counts: Bool[Tensor, "time envs"]
    """false for steps beyond an environment's share of the episodes, and where the physics diverged"""


class Collected(NamedTuple):
    """Trajectories, and what they took."""

    trajectories: Trajectories
    episodes: list[Episode]
    """in the order they ended, without those beyond an environment's share"""
    plan_seconds: float
    environment_seconds: float


@torch.no_grad()
def collect(policy: Policy, envs: VectorEnv, num_episodes: int, seed: int) -> Collected:
    """Run new episodes until there are so many, an equal share from each environment.

    Args:
        policy: acts; its actions are clamped to [-1, 1].
        envs: all their episodes start anew.
        num_episodes: how many; where environments do not share them equally, the first ones run one more.
        seed: of torch's global noise, which is left as it was.
    """
    with isolate_rng():
        torch.manual_seed(seed)
        return _Collection(policy, envs, num_episodes).run()


class _Collection:
    """One call of `collect`, whose lists grow by one an agent's step."""

    def __init__(self, policy: Policy, envs: VectorEnv, num_episodes: int) -> None:
        self.policy, self.envs = policy, envs
        self.shares = torch.tensor([len(range(i, num_episodes, envs.num_envs)) for i in range(envs.num_envs)])
        self.done = torch.zeros_like(self.shares)
        self.states: list[PolicyState] = []
        self.ends: dict[int, PolicyState] = {}
        self.outcomes: list[tuple[Tensor, ...]] = []
        self.episodes: list[Episode] = []
        self.running = [Running([observation]) for observation in envs.reset()]
        self.seconds = [0.0, 0.0]

    def run(self) -> Collected:
        observations, first = self.envs.observations, torch.ones_like(self.done, dtype=torch.bool)
        actions = torch.zeros(self.envs.num_envs, self.envs.action_dim)
        state: PolicyState | None = None
        while (self.done < self.shares).any():
            chosen, state = self._choose(observations, actions, first, state)
            actions = chosen.float().clamp(-1, 1)
            started = time.perf_counter()
            steps = self.envs.step(actions)
            self.seconds[1] += time.perf_counter() - started
            self._record(state, actions, steps)
            observations, first = self.envs.reset(steps.ended), steps.ended
            self._restart(observations, first)
        return self._collected(observations, actions, first, state)

    def _choose(
        self, observations: Tensor, actions: Tensor, first: Tensor, state: PolicyState | None
    ) -> tuple[Tensor, PolicyState]:
        started = time.perf_counter()
        chosen, state = self.policy(observations, actions, first, state)
        self.seconds[0] += time.perf_counter() - started
        return chosen.to(MEMORY), {name: tensor.to(MEMORY) for name, tensor in state.items()}

    def _record(self, state: PolicyState, actions: Tensor, steps: Steps) -> None:
        """One step, and what the policy makes of the last observations of episodes that ended with it."""
        counts = (self.done < self.shares) & ~steps.diverged
        self.states.append(state)
        self.outcomes.append((steps.rewards, steps.terminated, steps.truncated, steps.diverged, counts))
        for index, running in enumerate(self.running):
            if not steps.diverged[index]:
                running.add(steps.observations[index], actions[index], steps.rewards[index])
            if steps.ended[index] and running.actions and self.done[index] < self.shares[index]:
                self.episodes.append(running.ended(bool(steps.terminated[index])))
        if steps.ended.any():
            going_on = torch.zeros_like(steps.ended)
            self.ends[len(self.states) - 1] = self._choose(steps.observations, actions, going_on, state)[1]
        self.done += steps.ended.long()

    def _restart(self, observations: Tensor, ended: Tensor) -> None:
        for index in ended.nonzero().flatten().tolist():
            self.running[index] = Running([observations[index]])

    def _collected(self, *last: Tensor | PolicyState | None) -> Collected:
        """Everything stacked; a next state is the one that follows, where the episode goes on."""
        following = [*self.states[1:], self.ends.get(len(self.states) - 1) or self._choose(*last)[1]]  # pyright: ignore
        outcomes = (torch.stack(each) for each in zip(*self.outcomes, strict=True))
        rewards, terminated, truncated, diverged, counts = outcomes
        ended = terminated | truncated | diverged
        # What diverged says nothing of the task: the episode was cut off before it, with the state it began in to come.
        truncated = truncated | diverged
        truncated[:-1] |= diverged[1:] & ~ended[:-1]
        for t, end in self.ends.items():
            following[t] = {name: _where(ended[t], end[name], tensor) for name, tensor in following[t].items()}
        trajectories = Trajectories(_stacked(self.states), _stacked(following), rewards, terminated, truncated, counts)
        return Collected(trajectories, self.episodes, *self.seconds)


def _where(rows: Bool[Tensor, " envs"], yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (yes.dim() - 1)), yes, no)


def _stacked(states: list[PolicyState]) -> PolicyState:
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}
