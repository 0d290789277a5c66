"""Gymnasium environments with Box observations and actions as simulations."""

from __future__ import annotations

import atexit
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from lit_dcem.envs.rendering import mujoco_gl, opengl_backend
from lit_dcem.envs.simulation import DivergenceError
from lit_dcem.errors import UsageError

with mujoco_gl("disabled"):
    import mujoco

WARNING = mujoco.mjtWarning  # pyright: ignore[reportAttributeAccessIssue]
BROKEN = [int(w) for w in (WARNING.mjWARN_BADQPOS, WARNING.mjWARN_BADQVEL, WARNING.mjWARN_BADQACC)]
"""after these MuJoCo starts over by itself, in the middle of an episode"""


def names() -> list[str]:
    """What `gymnasium.make` knows; environments of other packages have a module in front, ``package:Name-v0``."""
    return list(gymnasium.registry)


class GymSimulation:
    """An environment of Gymnasium. It is seeded anew in every episode.

    Args:
        name: an id that `gymnasium.make` knows.

    Raises:
        UsageError: it cannot be made, or its spaces do not fit.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._environment = _made(name)
        observations, actions = self._environment.observation_space, self._environment.action_space
        for kind, space in (("observations", observations), ("actions", actions)):
            if not isinstance(space, Box):
                raise UsageError(f"The {kind} of an environment must be a Box, got {space} in {name}.")
        assert isinstance(observations, Box) and isinstance(actions, Box)
        if not actions.is_bounded():
            raise UsageError(f"The actions of an environment must have finite bounds, got {actions} in {name}.")
        self.observation_dim = int(np.prod(observations.shape))
        self._action_space = actions
        self.lower = np.ravel(actions.low).astype(np.float64)
        self.upper = np.ravel(actions.high).astype(np.float64)
        self._drawn = False
        self._warnings = _mujoco_warnings(self._environment)

    def reset(self, seed: np.random.SeedSequence) -> np.ndarray:
        observation, _ = self._environment.reset(seed=int(seed.generate_state(1)[0]))
        return _flat(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        space = self._action_space
        shaped = action.reshape(space.shape).astype(space.dtype)
        observation, reward, terminated, truncated, _ = self._environment.step(shaped)
        if self._warnings is not None and self._warnings[BROKEN].any():
            raise DivergenceError(f"MuJoCo met a number that is not one in {self._name}")
        terminated = bool(terminated)
        return _flat(observation), float(reward), terminated, bool(truncated) and not terminated

    def render(self, height: int, width: int) -> np.ndarray:
        if self._environment.render_mode != "rgb_array":
            raise UsageError(f"Pictures need the render mode rgb_array, which {self._name} does not have.")
        with mujoco_gl("disabled" if self._warnings is None else opengl_backend()):
            try:
                picture: Any = self._environment.render()
            except gymnasium.error.DependencyNotInstalled as error:
                reason = str(error).rstrip(".")
                raise UsageError(f"Pictures of {self._name} need a package that is missing: {reason}.") from error
        if not self._drawn:
            atexit.register(self._environment.close)  # while there is an OpenGL to close
            self._drawn = True
        return _fitted(np.asarray(picture), height, width)


def _made(name: str) -> gymnasium.Env:
    """The environment, able to draw where it knows how; nothing is drawn yet."""
    try:
        with mujoco_gl("disabled"):
            environment = gymnasium.make(name, disable_env_checker=True)
            if "rgb_array" not in environment.metadata.get("render_modes", ()):
                return environment
            environment.close()
            return gymnasium.make(name, disable_env_checker=True, render_mode="rgb_array")
    except (gymnasium.error.Error, ImportError) as error:
        reason = str(error).rstrip(".")
        raise UsageError(f"An environment must be one that Gymnasium can make, got {name}: {reason}.") from error


def _mujoco_warnings(environment: gymnasium.Env) -> np.ndarray | None:
    """How often MuJoCo has warned of each kind since the reset, as a view of its numbers; none without MuJoCo."""
    warnings = getattr(getattr(environment.unwrapped, "data", None), "warning", None)
    return None if warnings is None else warnings.number


def _flat(observation: np.ndarray) -> np.ndarray:
    return np.asarray(observation, np.float64).ravel()


def _fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture in its proportions, on black."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    rows, columns = (max(1, round(scale * size)) for size in picture.shape[:2])
    down = np.arange(rows) * picture.shape[0] // rows
    across = np.arange(columns) * picture.shape[1] // columns
    fitted = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    fitted[top : top + rows, left : left + columns] = picture[down][:, across]
    return fitted
