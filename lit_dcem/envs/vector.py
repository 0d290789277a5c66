"""Environments of one kind, stepped together in one process, that resume bit for bit from a checkpoint."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.envs.simulation import Member, Simulation


@dataclass(frozen=True)
class Steps:
    """Outcome of one step of every environment."""

    observations: Float[Tensor, "envs observation"]
    """after the step and before any reset; where an episode diverged, the last one before the step"""
    rewards: Float[Tensor, " envs"]
    """sums over the action repeat; 0 where an episode diverged"""
    terminated: Bool[Tensor, " envs"]
    """the task is over: no reward can follow"""
    truncated: Bool[Tensor, " envs"]
    """the time limit cut the episode off: rewards would have followed"""
    diverged: Bool[Tensor, " envs"]
    """the physics broke down: the episode is over, and nothing must be learned from this step"""

    @property
    def ended(self) -> Bool[Tensor, " envs"]:
        """Where an episode is over for any of the three reasons; pass it to `VectorEnv.reset`."""
        return self.terminated | self.truncated | self.diverged


class VectorEnv:
    """E environments that are stepped together, each in its own episode. Ended episodes wait for `reset`.

        observations = envs.reset()
        while True:
            steps = envs.step(policy(observations))
            observations = envs.reset(steps.ended)

    Episode k of environment i depends only on (seed, rank, i, k) and its actions. So a state is these numbers and
    actions, and loading it replays the running episodes. A replay is bit for bit the same if the simulator's seed
    determines its episode.

    Args:
        simulations: one for each environment, all of the same kind.
        action_repeat: simulator steps for each action, fewer where the episode ends.
        seed: one seed for all environments, or one for each. With a seed of its own, an environment has the episodes
            that it would have if it were the only one.
        rank: rank of the process. Processes with the same seed see different episodes.
        time_limit: simulator steps after which an episode is truncated. The simulation may end it earlier.
    """

    def __init__(
        self,
        simulations: Sequence[Simulation],
        action_repeat: int = 1,
        seed: int | Sequence[int] = 0,
        rank: int = 0,
        time_limit: int | None = None,
    ) -> None:
        if not simulations or action_repeat < 1:
            rule = "num_envs and action_repeat must be at least 1"
            raise ValueError(f"{rule}, got {len(simulations)} and {action_repeat}.")
        if time_limit is not None and time_limit < 1:
            raise ValueError(f"time_limit must be at least 1, got {time_limit}.")
        episode = simulations[0].time_limit
        if episode is not None and action_repeat > episode:
            raise ValueError(f"action_repeat must be at most the {episode} steps of an episode, got {action_repeat}.")
        self.num_envs = len(simulations)
        self.action_repeat = action_repeat
        self.time_limit = time_limit
        self.observation_dim = simulations[0].observation_dim
        self.action_dim = len(simulations[0].lower)
        self._bounds = [simulations[0].lower.tolist(), simulations[0].upper.tolist()]
        seeds = [(seed, i) for i in range(self.num_envs)] if isinstance(seed, int) else [(each, 0) for each in seed]
        self._members = [
            Member(simulation, action_repeat, (own, rank, index), time_limit)
            for simulation, (own, index) in zip(simulations, seeds, strict=True)
        ]

    @property
    def longest_episode(self) -> int | None:
        """Steps of `step` after which an episode ends at the latest; None where no limit is known."""
        own = self._members[0].simulation.time_limit
        limits = [limit for limit in (own, self.time_limit) if limit is not None]
        return math.ceil(min(limits) / self.action_repeat) if limits else None

    @property
    def observations(self) -> Float[Tensor, "envs observation"]:
        """Latest observation of every environment; zeros before the first reset."""
        return torch.from_numpy(np.stack([member.observation for member in self._members]))

    @property
    def ended(self) -> Bool[Tensor, " envs"]:
        """Where an episode is over and waits for `reset`; everywhere before the first reset."""
        return torch.tensor([member.ended for member in self._members])

    @property
    def simulator_steps(self) -> int:
        """Steps of all simulators, action repeats included and replays excluded."""
        return sum(member.simulator_steps for member in self._members)

    @property
    def num_diverged(self) -> int:
        """Number of episodes that diverged."""
        return sum(member.num_diverged for member in self._members)

    def reset(self, where: Bool[Tensor, " envs"] | None = None) -> Float[Tensor, "envs observation"]:
        """Start new episodes at ``where``, by default everywhere; return the latest observations everywhere."""
        for index, member in enumerate(self._members):
            if where is None or where[index]:
                member.reset()
        return self.observations

    def step(self, actions: Float[Tensor, "envs action"]) -> Steps:
        """Act in every environment. -1 and 1 stand for the bounds of its actions; values beyond them are clipped.

        Raises:
            RuntimeError: an episode has ended and has not been reset.
            ValueError: the actions have another shape or are not finite.
        """
        outcomes = [m.step(a) for m, a in zip(self._members, self._checked(actions), strict=True)]
        rewards, terminated, truncated, diverged = zip(*outcomes, strict=True)
        return Steps(
            self.observations,
            torch.tensor(rewards, dtype=torch.float32),
            torch.tensor(terminated),
            torch.tensor(truncated),
            torch.tensor(diverged),
        )

    def render(self, index: int = 0, height: int = 240, width: int = 320) -> np.ndarray:
        """Draw a uint8 picture ``[height, width, 3]`` of one environment.

        Raises:
            UsageError: the environment cannot be drawn, for example without OpenGL.
        """
        return self._members[index].simulation.render(height, width)

    def state_dict(self) -> dict[str, Any]:
        members = [member.state_dict() for member in self._members]
        return {"sizes": self._sizes(), "bounds": self._bounds, "members": members}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from the state, with its seeds, by replaying the running episodes from their start.

        Warns if a replay differs from the saved episode. Such an episode may have `ended`.

        Raises:
            ValueError: the state is of other environments.
        """
        if state_dict["sizes"] != self._sizes():
            rule = "A state must be loaded into environments of the same sizes"
            raise ValueError(f"{rule}, got {state_dict['sizes']} for {self._sizes()}.")
        if state_dict.get("bounds", self._bounds) != self._bounds:
            rule = "Environments must have the action bounds of the saved ones"
            raise ValueError(f"{rule}, got {self._bounds} for {state_dict['bounds']}.")
        same = [m.load_state_dict(s) for m, s in zip(self._members, state_dict["members"], strict=True)]
        if not all(same):
            warnings.warn(
                "Replayed episodes differ from the saved ones, so the run does not resume bit for bit: the simulator "
                "is another version, runs on another kind of processor, or has randomness that its seed does not fix.",
                stacklevel=2,
            )

    def _sizes(self) -> dict[str, int]:
        names = ("num_envs", "action_repeat", "observation_dim", "action_dim")
        limit = {} if self.time_limit is None else {"time_limit": self.time_limit}
        return {name: getattr(self, name) for name in names} | limit

    def _checked(self, actions: Tensor) -> np.ndarray:
        """Check the actions and copy them, clipped, to a float32 array ``[E, A]``, which is kept for replays."""
        if any(member.ended for member in self._members):
            where = self.ended.nonzero().flatten().tolist()
            raise RuntimeError(f"Episodes that have ended must be reset before a step, got environments {where}.")
        array = actions.detach().to("cpu", torch.float32).numpy()
        if array.shape != (self.num_envs, self.action_dim):
            raise ValueError(f"actions must be {[self.num_envs, self.action_dim]}, got {list(array.shape)}.")
        if not np.isfinite(array).all():
            raise ValueError("actions must be finite, got nan or inf.")
        return np.clip(array, -1.0, 1.0)
