"""OpenGL: not looked at while nothing is drawn, whatever MUJOCO_GL says; then a picture, or one sentence."""

import os
import subprocess
import sys

import pytest

from lit_dcem.envs import rendering
from lit_dcem.envs.make import make
from lit_dcem.envs.rendering import BACKENDS, mujoco_gl, opengl_backend
from lit_dcem.errors import UsageError

WITHOUT_PICTURES = """
import os, sys
import lit_dcem
assert not {"dm_control", "gymnasium", "mujoco"} & set(sys.modules)
from lit_dcem.envs.make import make
from lit_dcem.errors import UsageError
before = os.environ.get("MUJOCO_GL")
for name in ("cheetah-run", "HalfCheetah-v5"):
    envs = make(name)
    envs.reset()
    assert "OpenGL" not in sys.modules and os.environ.get("MUJOCO_GL") == before
    try:
        envs.render()
    except UsageError as error:
        print(error)
"""


@pytest.fixture(autouse=True)
def forgotten():
    rendering._working.cache_clear()
    yield
    rendering._working.cache_clear()


def python(script, **environment):
    ours = {"MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"}
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        # PyOpenGL looks for what it was told to, which is not what OSMesa wants.
        (
            {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "egl"},
            "Pictures of a simulation need OpenGL through EGL or OSMesa, got none: osmesa (ImportError",
        ),
        pytest.param(
            {"MUJOCO_GL": "glfw"},
            "Pictures of a simulation need OpenGL through EGL or OSMesa, got none: glfw (",
            marks=pytest.mark.slow,  # the same sentence as of a missing library
        ),
        ({"MUJOCO_GL": "vulkan"}, "MUJOCO_GL must be egl, osmesa or glfw (or unset) for pictures of a simulation, got"),
        pytest.param(
            {"MUJOCO_GL": "disabled"},
            "MUJOCO_GL must be egl, osmesa or glfw (or unset) for pictures of a simulation, got",
            marks=pytest.mark.slow,  # as "vulkan"
        ),
    ],
    ids=["library missing", "no display", "no backend", "off"],
)
def test_nothing_is_loaded_before_a_picture_and_then_one_sentence_says_what_is_missing(environment, sentence):
    done = python(WITHOUT_PICTURES, **environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith(sentence) for line in lines), lines


def test_the_variable_is_ours_for_a_while_alone(monkeypatch):
    for before in ("osmesa", None):
        monkeypatch.delenv("MUJOCO_GL", raising=False)
        if before:
            monkeypatch.setenv("MUJOCO_GL", before)
        with mujoco_gl("disabled"):
            assert os.environ["MUJOCO_GL"] == "disabled"
        assert os.environ.get("MUJOCO_GL") == before


@pytest.mark.parametrize(
    ("platform", "chosen", "tried"),
    [
        ("linux", None, ["egl", "osmesa"]),
        ("darwin", None, ["glfw"]),
        ("win32", None, ["glfw"]),
        ("linux", " GLFW ", ["glfw"]),
        ("darwin", "osmesa", ["osmesa"]),
    ],
)
def test_what_is_tried_depends_on_the_platform_and_the_variable(monkeypatch, platform, chosen, tried):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if chosen:
        monkeypatch.setenv("MUJOCO_GL", chosen)
    asked = []
    monkeypatch.setattr(rendering, "_failure", lambda backend: asked.append(backend) or "no luck.")
    by = {"linux": "EGL or OSMesa"}.get(platform, "GLFW")
    with pytest.raises(UsageError, match=rf"need OpenGL through {by}, got none: {tried[0]} \(no luck\)"):
        opengl_backend()
    assert asked == tried
    monkeypatch.setattr(rendering, "_failure", lambda backend: None)
    assert opengl_backend() == tried[0]


def test_a_probe_that_crashes_or_hangs_is_a_reason(monkeypatch):
    monkeypatch.setattr(rendering, "PROBE", "import os; os.abort()")
    assert rendering._failure("egl") == "exit code -6"
    monkeypatch.setattr(rendering, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(rendering, "PROBE_SECONDS", 0.2)
    assert rendering._failure("egl") == "no picture within 0.2 s"
    monkeypatch.setattr(rendering, "PROBE", "raise SystemExit('what is missing.')")
    monkeypatch.setattr(rendering, "PROBE_SECONDS", 60)
    assert rendering._failure("egl") == "what is missing."


def test_every_backend_is_one_that_the_suite_can_draw_with():
    from lit_dcem.envs.suite import RENDERERS

    known = {*rendering.WITHOUT_DISPLAY, *(backend for each in BACKENDS.values() for backend in each)}
    assert known <= set(RENDERERS) == set(rendering.SPELLINGS)


def test_a_picture_that_is_none_is_one_sentence(monkeypatch):
    envs = make("Pendulum-v1")
    envs.reset()
    environment = envs._members[0].simulation._environment
    monkeypatch.setattr(environment.unwrapped, "render", lambda: None)
    with pytest.raises(UsageError, match=r"A picture of Pendulum-v1 must be \[height, width, 3\], got \[\]"):
        envs.render()
