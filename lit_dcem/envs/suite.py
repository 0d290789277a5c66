"""Adapter for the tasks of the dm_control suite."""

from __future__ import annotations

import copy
import importlib
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_dcem.envs.rendering import mujoco_gl, opengl_backend
from lit_dcem.envs.simulation import DivergenceError, flat
from lit_dcem.errors import UsageError

with mujoco_gl("disabled"):
    from dm_control import _render, suite
    from dm_control.rl.control import Environment, PhysicsError

UNBOUNDED = 1e9
"""dm_control gives 1e10 as the bound of an unbounded actuator (lqr); its actions stay in [-1, 1], unscaled"""
RENDERERS = {
    "egl": ("pyopengl.egl_renderer", "EGLContext"),
    "osmesa": ("pyopengl.osmesa_renderer", "OSMesaContext"),
    "glfw": ("glfw_renderer", "GLFWContext"),
}
NAMES = {f"{domain}-{task}": (domain, task) for domain, task in suite.ALL_TASKS}
"""domain and task of each name, such as ``cheetah-run``"""


class SuiteSimulation:
    """A task of the suite. Its observations are flattened in the order of its specification.

    Args:
        name: one of `NAMES`.
        options: keyword arguments of the task's function in dm_control.suite, such as ``time_limit`` [s] or
            ``environment_kwargs``.

    Raises:
        UsageError: the task does not take the options.
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self._name = name
        self._environment = _loaded(name, options or {})
        self._physics = self._environment.physics
        # quadruped-escape redraws its terrain with OpenGL in every reset. Skip that until the first picture.
        self._physics._make_rendering_contexts = lambda: None
        self._drawn = False
        limit = self._environment._step_limit
        self.time_limit = math.ceil(limit) if np.isfinite(limit) else None  # lqr has none
        parts = self._environment.observation_spec().items()
        self._sizes = {part: int(np.prod(spec.shape)) for part, spec in parts}
        self.observation_dim = sum(self._sizes.values())
        spec = self._environment.action_spec()
        bounded = (np.abs(spec.minimum) < UNBOUNDED) & (np.abs(spec.maximum) < UNBOUNDED)
        self.lower = np.where(bounded, spec.minimum, -1.0)
        self.upper = np.where(bounded, spec.maximum, 1.0)

    def reset(self, seed: np.random.SeedSequence) -> np.ndarray:
        self._environment.task.random.seed(seed.generate_state(8))
        try:
            return self.numbers(self._environment.reset().observation)
        except PhysicsError as error:
            raise DivergenceError(str(error)) from error

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        try:
            step = self._environment.step(action)
        except PhysicsError as error:
            raise DivergenceError(str(error)) from error
        # At the end of an episode the discount is 0 if the task is over, and 1 at the time limit.
        terminated = step.last() and bool(step.discount == 0)
        return self.numbers(step.observation), float(step.reward), terminated, step.last() and not terminated

    def numbers(self, observation: Any) -> np.ndarray:
        if not isinstance(observation, Mapping) or observation.keys() != self._sizes.keys():
            rule = f"The observation of {self._name} must be that of a TimeStep, with {', '.join(self._sizes)}"
            got = ", ".join(map(str, observation)) if isinstance(observation, Mapping) else type(observation).__name__
            raise UsageError(f"{rule}, got {got or 'nothing'}.")
        what = f"in the observation of {self._name}"
        return np.concatenate([flat(observation[part], f"{part} {what}", size) for part, size in self._sizes.items()])

    def shaped(self, action: np.ndarray) -> np.ndarray:
        return action

    def render(self, height: int, width: int) -> np.ndarray:
        canvas = self._physics.model.vis.global_
        if not self._drawn or height > canvas.offheight or width > canvas.offwidth:
            canvas.offheight, canvas.offwidth = max(height, canvas.offheight), max(width, canvas.offwidth)
            self._start_drawing()
        camera = 0 if self._physics.model.ncam else -1
        plain = {"shadow": False, "reflection": False}  # twice as fast
        return self._physics.render(height, width, camera_id=camera, render_flag_overrides=plain)

    def _start_drawing(self) -> None:
        module, renderer = RENDERERS[opengl_backend()]
        _render.Renderer = getattr(importlib.import_module(f"dm_control._render.{module}"), renderer)
        if self._drawn:
            self._physics._free_rendering_contexts()
        else:
            del self._physics._make_rendering_contexts
        self._drawn = True


def _loaded(name: str, options: Mapping[str, Any]) -> Environment:
    """Load the task, without MuJoCo's compiler warnings about dm_control's own files."""
    expected = Exception if options else ()  # tasks raise any exception, even AssertionError
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # lqr draws its model at random here; with a fixed seed all episodes are of the same task.
        return suite.load(*NAMES[name], task_kwargs={"random": 0, **copy.deepcopy(dict(options))})
    except expected as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        rule = f"env_options must be arguments of dm_control's {name}"
        raise UsageError(f"{rule}, got {dict(options)}: {reason}.") from error
    finally:
        logger.setLevel(level)
