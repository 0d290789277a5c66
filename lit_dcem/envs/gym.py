"""Adapter for Gymnasium environments with Box observations and actions."""

from __future__ import annotations

import atexit
import copy
import inspect
import weakref
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from lit_dcem.envs.rendering import mujoco_gl, opengl_backend
from lit_dcem.envs.simulation import DivergenceError, flat
from lit_dcem.envs.spaces import ActionBox, observation_dim
from lit_dcem.errors import UsageError

with mujoco_gl("disabled"):
    import mujoco

WARNING = mujoco.mjtWarning  # pyright: ignore[reportAttributeAccessIssue]
BROKEN = [int(w) for w in (WARNING.mjWARN_BADQPOS, WARNING.mjWARN_BADQVEL, WARNING.mjWARN_BADQACC)]
"""warnings after which MuJoCo resets the simulation in the middle of an episode"""
OURS = ("id", "render_mode", "disable_env_checker", "vectorization_mode")
"""arguments of `gymnasium.make` that lit-dcem sets, not the user"""


def names() -> list[str]:
    """Ids in Gymnasium's registry. In ``package:Name-v0``, importing the package registers the id."""
    return list(gymnasium.registry)


class GymSimulation:
    """A Gymnasium environment, seeded again in every episode.

    Args:
        name: an id that `gymnasium.make` knows.
        options: keyword arguments of `gymnasium.make`, which passes those that it does not know to the environment.

    Raises:
        UsageError: the environment cannot be made, or its spaces are not supported.
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self._name = name
        self._environment = _made(name, options or {})
        self._close = weakref.finalize(self, _close, self._environment)  # with this object, or at the end
        self.observation_dim = observation_dim(getattr(self._environment, "observation_space", None), name)
        self._actions = ActionBox(getattr(self._environment, "action_space", None), name)
        self.lower, self.upper = self._actions.lower, self._actions.upper
        self.time_limit = _time_limit(self._environment)
        _check_seed(self._environment, name)
        self._drawn = False
        self._warnings = _mujoco_warnings(self._environment)

    def reset(self, seed: np.random.SeedSequence) -> np.ndarray:
        outcome = self._environment.reset(seed=int(seed.generate_state(1)[0]))
        observation, _ = self._unpacked(outcome, "reset", ("observation", "info"))
        return self.numbers(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        names = ("observation", "reward", "terminated", "truncated", "info")
        outcome = self._environment.step(self.shaped(action))
        observation, reward, terminated, truncated, _ = self._unpacked(outcome, "step", names)
        if self._warnings is not None and self._warnings[BROKEN].any():
            raise DivergenceError(f"MuJoCo computed NaN or infinity in {self._name}")
        observation = self.numbers(observation)
        terminated, reward = bool(terminated), flat(reward, f"reward of {self._name}", 1)[0]
        return observation, float(reward), terminated, bool(truncated) and not terminated

    def numbers(self, observation: Any) -> np.ndarray:
        return flat(observation, f"observation of {self._name}", self.observation_dim, " of its observation_space")

    def shaped(self, action: np.ndarray) -> np.ndarray:
        return self._actions.shaped(action)

    def _unpacked(self, outcome: Any, method: str, names: tuple[str, ...]) -> tuple[Any, ...]:
        if isinstance(outcome, tuple) and len(outcome) == len(names):
            return outcome
        rule = f"{method} of {self._name} must return ({', '.join(names)})"
        got = f"{len(outcome)} values" if isinstance(outcome, tuple) else type(outcome).__name__
        raise UsageError(f"{rule}, as in Gymnasium, got {got}.")

    def render(self, height: int, width: int) -> np.ndarray:
        if self._environment.render_mode != "rgb_array":
            raise UsageError(
                f"An environment must have the render mode rgb_array to be drawn, got none in {self._name}."
            )
        with nullcontext() if self._warnings is None else mujoco_gl(opengl_backend()):
            try:
                picture: Any = self._environment.render()
            except gymnasium.error.DependencyNotInstalled as error:
                reason = str(error).rstrip(".")
                raise UsageError(f"Pictures of {self._name} need a missing package: {reason}.") from error
        if not self._drawn:
            atexit.register(self._close)  # before OpenGL itself is unloaded
            self._drawn = True
        picture = np.asarray(picture)
        if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise UsageError(f"A picture of {self._name} must be [height, width, 3], got {list(picture.shape)}.")
        return _fitted(picture, height, width)


def _made(name: str, options: Mapping[str, Any]) -> gymnasium.Env:
    """Make the environment, with the render mode rgb_array if it has one. Nothing is drawn yet."""
    ours = [each for each in OURS if each in options]
    if ours:
        raise UsageError(f"env_options must leave {' and '.join(OURS)} to lit-dcem, got {' and '.join(ours)}.")
    # With options, an environment may raise any exception.
    expected = Exception if options else (gymnasium.error.Error, ImportError, TypeError)
    try:
        with mujoco_gl("disabled"):
            environment = _make(name, options)
            if "rgb_array" not in environment.metadata.get("render_modes", ()):
                return environment
            _close(environment)
            with suppress(TypeError):  # it lists the mode, but takes none: there are no pictures
                return _make(name, options, render_mode="rgb_array")
            return _make(name, options)
    except expected as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        what = f"{name} with env_options {dict(options)}" if options else name
        raise UsageError(f"An environment must be one that Gymnasium can make, got {what}: {reason}.") from error


def _make(name: str, options: Mapping[str, Any], **more: Any) -> gymnasium.Env:
    options = copy.deepcopy(dict(options))  # an environment may keep and modify them
    return gymnasium.make(name, disable_env_checker=True, **more, **options)


def _close(environment: gymnasium.Env) -> None:
    with suppress(Exception):  # of its own, which was perhaps never reset
        environment.close()


def _time_limit(environment: gymnasium.Env) -> int | None:
    while isinstance(environment, gymnasium.Wrapper):
        if isinstance(environment, TimeLimit):
            return environment._max_episode_steps
        environment = environment.env
    return None


def _check_seed(environment: gymnasium.Env, name: str) -> None:
    parameters = inspect.signature(environment.unwrapped.reset).parameters.values()
    if not any(each.name == "seed" or each.kind == each.VAR_KEYWORD for each in parameters):
        raise UsageError(
            f"reset of an environment must take seed, which determines all its randomness, got none in {name}."
        )


def _mujoco_warnings(environment: gymnasium.Env) -> np.ndarray | None:
    """View of MuJoCo's counts of each kind of warning since the reset. None without MuJoCo."""
    warnings = getattr(getattr(environment.unwrapped, "data", None), "warning", None)
    return None if warnings is None else warnings.number


def _fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale the whole picture to the size, keep its proportions, and fill the rest with black."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    rows, columns = (max(1, round(scale * size)) for size in picture.shape[:2])
    down = np.arange(rows) * picture.shape[0] // rows
    across = np.arange(columns) * picture.shape[1] // columns
    fitted = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    fitted[top : top + rows, left : left + columns] = picture[down][:, across]
    return fitted
