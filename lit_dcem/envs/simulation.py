"""The interface of adapters, and one environment whose running episode can be saved and replayed."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from lit_dcem.errors import UsageError

MAX_RESETS = 100
"""consecutive episodes that may diverge at their start or first step before the environment counts as broken"""
LARGEST = float(np.finfo(np.float32).max)


class DivergenceError(Exception):
    """The simulation computed NaN or infinity, or raised PhysicsError. Its episode is over."""


@runtime_checkable
class Simulation(Protocol):
    """One simulator, which makes one step at a time in its own units."""

    observation_dim: int
    lower: np.ndarray
    """smallest action, finite float64 ``[A]``"""
    upper: np.ndarray
    """largest action, finite float64 ``[A]``"""
    time_limit: int | None
    """steps after which its episodes end, if not by themselves; None without a limit"""

    def reset(self, seed: np.random.SeedSequence) -> np.ndarray:
        """Start an episode whose randomness is determined by the seed, and return its first observation ``[O]``.

        Raises:
            DivergenceError: the first observation is broken.
        """
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Return observation ``[O]``, reward, terminated and truncated after the action ``[A]``.

        Raises:
            DivergenceError: the simulation broke down.
        """
        ...

    def numbers(self, observation: Any) -> np.ndarray:
        """The numbers ``[O]`` of an observation as the environment itself gives it. May raise UsageError."""
        ...

    def shaped(self, action: np.ndarray) -> np.ndarray:
        """An action ``[A]`` from ``lower`` to ``upper``, as the environment itself takes it."""
        ...

    def render(self, height: int, width: int) -> np.ndarray:
        """Draw a uint8 picture ``[height, width, 3]`` without changing the simulation."""
        ...


class Member:
    """One environment: a simulation, the number of its episode, and the actions taken in it."""

    def __init__(
        self, simulation: Simulation, action_repeat: int, seed: tuple[int, int, int], time_limit: int | None = None
    ) -> None:
        self.simulation = simulation
        self.action_repeat = action_repeat
        self.time_limit = time_limit
        self.seed = seed
        self.number = 0
        self.ended = True
        self.observation = np.zeros(simulation.observation_dim, np.float32)
        self.simulator_steps = 0
        self.num_diverged = 0
        self._episode_steps = 0
        self._in_vain = 0
        self._actions: list[np.ndarray] = []

    def reset(self) -> None:
        """Start the next episode that does not diverge at its start."""
        while self._in_vain < MAX_RESETS:
            self.number += 1
            try:
                return self._begin()
            except DivergenceError:
                self.num_diverged += 1
                self._in_vain += 1
        rule = "An environment must have an initial state from which it can be stepped"
        raise UsageError(f"{rule}, got {MAX_RESETS} in a row that diverged (to NaN, for example).")

    def step(self, action: np.ndarray) -> tuple[float, bool, bool, bool]:
        """Repeat an action ``[A]`` in [-1, 1]; return reward, terminated, truncated and diverged."""
        self._actions.append(action)
        try:
            reward, terminated, truncated = self._act(in_bounds(self.simulation, action))
            diverged, self._in_vain = False, 0
        except DivergenceError:
            reward, terminated, truncated, diverged = 0.0, False, False, True
            self.num_diverged += 1
            self._in_vain += len(self._actions) == 1
        self.ended = terminated or truncated or diverged
        return reward, terminated, truncated, diverged

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        total = 0.0
        for repeat in range(1, self.action_repeat + 1):
            self.simulator_steps += 1
            self._episode_steps += 1
            observation, reward, terminated, truncated = self.simulation.step(action)
            total += reward
            truncated |= not terminated and self._is_at_limit()
            if terminated or truncated or repeat == self.action_repeat:
                self.observation = finite(observation, total)
                return total, terminated, truncated
        raise AssertionError("action_repeat is at least 1")

    def _is_at_limit(self) -> bool:
        return self.time_limit is not None and self._episode_steps >= self.time_limit

    def state_dict(self) -> dict[str, Any]:
        actions = np.stack(self._actions) if self._actions else np.zeros((0, len(self.simulation.lower)), np.float32)
        return {
            "seed": list(self.seed),
            "number": self.number,
            "ended": self.ended,
            "actions": torch.from_numpy(actions),
            "observation": torch.from_numpy(self.observation.copy()),
            "counts": [self.simulator_steps, self.num_diverged],
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Replay the episode; return whether it led to the saved observation."""
        first, second, third = state["seed"]
        self.seed, self.number = (first, second, third), state["number"]
        if self.number:
            self._replay(state["actions"].to("cpu", copy=True).numpy())
        self.ended |= state["ended"]
        self.simulator_steps, self.num_diverged = state["counts"]
        return bool((self.observation == state["observation"].cpu().numpy()).all())

    def _begin(self) -> None:
        self._actions, self._episode_steps, self.ended = [], 0, False
        entropy = np.random.SeedSequence((*self.seed, self.number))
        self.observation = finite(self.simulation.reset(entropy))

    def _replay(self, actions: np.ndarray) -> None:
        self._begin()
        for action in actions:
            if self.ended:  # the replay differs from the saved episode
                return
            self.step(action)


def in_bounds(simulation: Simulation, action: np.ndarray) -> np.ndarray:
    """Convert an action ``[A]`` in [-1, 1] to the simulator's units: -1 is its lower bound, 1 its upper bound."""
    lower, upper = simulation.lower, simulation.upper
    return np.clip((upper + lower) / 2 + (upper - lower) / 2 * action, lower, upper)


def flat(given: Any, what: str, size: int, of: str = "") -> np.ndarray:
    """Flatten numbers of any shape to float64 ``[size]``.

    Args:
        given: the numbers.
        what: names them in an error.
        size: how many there must be.
        of: says in an error where the size comes from.

    Raises:
        UsageError: another number of them, or something that is not numeric.
    """
    try:
        numbers = np.asarray(given).ravel()
    except ValueError:  # lists of different lengths
        numbers = np.array([None])
    if numbers.dtype.kind not in "biuf":
        raise UsageError(f"The {what} must be numeric, got {given!r:.100}.")
    if numbers.size != size:
        raise UsageError(f"The {what} must have the size{of}, {size}, got {numbers.size}.")
    return numbers.astype(np.float64)


def finite(observation: np.ndarray, reward: float = 0.0) -> np.ndarray:
    """Return the observation as float32.

    Raises:
        DivergenceError: it or the reward is not finite in float32.
    """
    if not (np.abs(observation).max() <= LARGEST and abs(reward) <= LARGEST):  # also true for NaN
        raise DivergenceError("An observation or reward is not finite")
    return observation.astype(np.float32)
