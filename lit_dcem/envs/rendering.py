"""OpenGL, which is loaded only when a picture is asked for: by what MUJOCO_GL says, else by what systems have."""

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
"""of what dm_control and Gymnasium can draw with"""
BACKENDS = {"darwin": ("glfw",), "win32": ("glfw",)}
"""tried in this order on a platform, if MUJOCO_GL does not say"""
WITHOUT_DISPLAY = ("egl", "osmesa")
"""the same on all others"""
# A context alone is not enough: GLFW without a display makes one that nothing can be drawn in.
PROBE = "from dm_control.mujoco import Physics; Physics.from_xml_string('<mujoco/>').render(8, 8)"
PROBE_SECONDS = 60
"""after which a backend does not work"""


@contextmanager
def mujoco_gl(value: str) -> Iterator[None]:
    """MUJOCO_GL is ``value`` inside, whatever the user has set: MuJoCo's packages read it when they are imported."""
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
    """The first backend that works, of the one that MUJOCO_GL names, or of those that the platform has.

    Raises:
        UsageError: none does, or MUJOCO_GL does not name one.
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
    """The first that draws, tried in processes of their own: one that fails spoils its process for the next."""
    reasons = []
    for backend in backends:
        reason = _failure(backend)
        if reason is None:
            return backend
        reasons.append(f"{backend} ({reason.strip().rstrip('.')})")
    by = _either(SPELLINGS[backend] for backend in _usual())
    raise UsageError(f"Pictures of a simulation need OpenGL, by {by}, got none: {', '.join(reasons)}.")


def _failure(backend: str) -> str | None:
    """Why a backend does not draw; None if it does."""
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
