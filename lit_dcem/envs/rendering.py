"""Choice of an OpenGL backend: the one in MUJOCO_GL, otherwise the first of the platform's that works.

OpenGL is loaded only when a picture is first drawn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from lit_dcem.errors import UsageError

VARIABLE = "MUJOCO_GL"
SPELLINGS = {"egl": "EGL", "osmesa": "OSMesa", "glfw": "GLFW"}
"""backends that dm_control and Gymnasium can draw with"""
BACKENDS = {"darwin": ("glfw",), "win32": ("glfw",)}
"""backends to try on a platform, in this order, if MUJOCO_GL is not set"""
WITHOUT_DISPLAY = ("egl", "osmesa")
"""the same for all other platforms"""
# Draw a picture: without a display, GLFW makes a context but cannot draw in it.
PROBE = "from dm_control.mujoco import Physics; Physics.from_xml_string('<mujoco/>').render(8, 8)"
PROBE_SECONDS = 60
"""time limit for a backend to draw"""


@contextmanager
def mujoco_gl(value: str) -> Iterator[None]:
    """Set MUJOCO_GL to ``value`` in the block. MuJoCo's packages read it when they are imported."""
    chosen = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = value
    try:
        yield
    finally:
        if chosen is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = chosen


def opengl_backend() -> str:
    """Return the backend in MUJOCO_GL, otherwise the first of the platform's that works.

    Raises:
        UsageError: no backend works, or MUJOCO_GL does not name one.
    """
    chosen = os.environ.get(VARIABLE, "").strip().lower()
    if chosen and chosen not in SPELLINGS:
        rule = f"{VARIABLE} must be {_either(SPELLINGS)} (or unset) for pictures of a simulation"
        raise UsageError(f"{rule}, got {os.environ[VARIABLE]}.")
    return _working((chosen,) if chosen else _usual())


def _usual() -> tuple[str, ...]:
    return BACKENDS.get(sys.platform, WITHOUT_DISPLAY)


@cache
def _working(backends: tuple[str, ...]) -> str:
    """Return the first backend that draws. Each is tried in its own process, since a failure breaks later attempts."""
    reasons = []
    for backend in backends:
        reason = _failure(backend)
        if reason is None:
            return backend
        reasons.append(f"{backend} ({reason.strip().rstrip('.')})")
    by = _either(SPELLINGS[backend] for backend in _usual())
    raise UsageError(f"Pictures of a simulation need OpenGL through {by}, got none: {', '.join(reasons)}.")


def _failure(backend: str) -> str | None:
    """Return why a backend does not draw, None if it does."""
    command, environment = [sys.executable, "-c", PROBE], {**os.environ, VARIABLE: backend}
    options = {"capture_output": True, "text": True, "errors": "replace", "check": False}
    try:
        done = subprocess.run(command, env=environment, timeout=PROBE_SECONDS, **options)
    except subprocess.TimeoutExpired:
        return f"no picture within {PROBE_SECONDS} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
