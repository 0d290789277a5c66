"""OpenGL, which is loaded only when a picture is asked for: by EGL, else OSMesa, or what MUJOCO_GL says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from lit_dcem.errors import UsageError

VARIABLE = "MUJOCO_GL"
BACKENDS = ("egl", "osmesa")
PROBE = "from dm_control import _render; _render.Renderer(8, 8).make_current().__enter__()"


@contextmanager
def mujoco_gl(value: str) -> Iterator[None]:
    """MUJOCO_GL is ``value`` inside, unless the user has set it: MuJoCo's packages read it when they are imported."""
    chosen = os.environ.get(VARIABLE)
    os.environ.setdefault(VARIABLE, value)
    try:
        yield
    finally:
        if chosen is None:
            os.environ.pop(VARIABLE, None)


@cache
def opengl_backend() -> str:
    """The first backend that works, tried in processes of their own: one that fails spoils its process for the next.

    Raises:
        UsageError: none does.
    """
    reasons = []
    for backend in (os.environ[VARIABLE],) if os.environ.get(VARIABLE) else BACKENDS:
        command, environment = [sys.executable, "-c", PROBE], {**os.environ, VARIABLE: backend}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return backend
        reason = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
        reasons.append(f"{backend} ({reason.rstrip('.')})")
    raise UsageError(f"Pictures of a simulation need OpenGL, by EGL or OSMesa, got none: {', '.join(reasons)}.")
