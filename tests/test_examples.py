"""Every example runs, and what it prints is good."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
COVERED = {"planning_with_your_own_model", "differentiable_mpc", "mujoco_mpc"}


def printed(name, *options, cwd):
    command = [sys.executable, "-W", "error", str(FOLDER / f"{name}.py"), *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


def test_every_example_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == COVERED


@pytest.mark.slow
def test_points_arrive_around_obstacles(tmp_path):
    arrived, count, clearance = numbers(printed("planning_with_your_own_model", cwd=tmp_path))
    assert arrived == count == 6 and clearance > 0


@pytest.mark.slow
def test_the_weight_of_the_expert_is_learned(tmp_path):
    *_, last = printed("differentiable_mpc", cwd=tmp_path).splitlines()
    learned, expert = numbers(last)
    assert learned == pytest.approx(expert, rel=0.15)


def test_a_cheetah_begins_to_run(tmp_path):
    options = ("--steps=60", "--horizon=12", "--candidates=20", "--elites=5", "--iterations=2", "--threads=1")
    first, *_ = printed("mujoco_mpc", *options, cwd=tmp_path).splitlines()
    seed, earned, steps = numbers(first)
    assert (seed, steps) == (0, 60) and earned > 4


@pytest.mark.slow
def test_a_cheetah_runs(tmp_path):
    _, earned, steps = numbers(printed("mujoco_mpc", "--threads=1", cwd=tmp_path).splitlines()[0])
    assert earned > 700 and steps == 1000
