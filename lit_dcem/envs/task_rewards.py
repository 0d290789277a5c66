"""Rewards of some tasks of dm_control for many states at once.

dm_control computes the reward of one state at a time, which takes several times as long as the step of physics before
it. These functions compute the same numbers from arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_dcem.envs.rendering import mujoco_gl

with mujoco_gl("disabled"):
    from dm_control.suite import cheetah, walker
    from dm_control.utils.rewards import tolerance


@dataclass(frozen=True)
class States:
    """M states, as far as rewards depend on them."""

    qpos: np.ndarray
    """``[M, nq]``"""
    qvel: np.ndarray
    """``[M, nv]``"""
    sensors: np.ndarray
    """``[M, nsensordata]``, at these positions and velocities"""
    control: np.ndarray
    """``[M, nu]``, what led to the states"""


BatchReward = Callable[[Any, States], np.ndarray]
"""``(task, states) -> rewards [M]``"""


def _cheetah(task: Any, states: States) -> np.ndarray:
    speed = cheetah._RUN_SPEED
    forward, bounds = states.sensors[:, 0], (speed, np.inf)
    return np.asarray(tolerance(forward, bounds=bounds, margin=speed, value_at_margin=0, sigmoid="linear"))


def _walker(task: Any, states: States) -> np.ndarray:
    height, angle = TORSO_HEIGHT + states.qpos[:, 0], states.qpos[:, 2]
    least, speed = walker._STAND_HEIGHT, task._move_speed
    standing = tolerance(height, bounds=(least, np.inf), margin=least / 2)
    upright = (1 + np.cos(angle)) / 2
    posture = (3 * standing + upright) / 4
    if speed == 0:
        return posture
    bounds, forward = (speed, np.inf), states.sensors[:, 0]
    moving = tolerance(forward, bounds=bounds, margin=speed / 2, value_at_margin=0.5, sigmoid="linear")
    return posture * (5 * moving + 1) / 6


def _cartpole(task: Any, states: States) -> np.ndarray:
    position, angle = states.qpos[:, 0], states.qpos[:, 1]
    upright = (np.cos(angle) + 1) / 2
    centred = (1 + tolerance(position, margin=2)) / 2
    gentle = (4 + tolerance(states.control[:, 0], margin=1, value_at_margin=0, sigmoid="quadratic")) / 5
    slow = (1 + tolerance(states.qvel[:, 1], margin=5)) / 2
    return upright * gentle * slow * centred


TORSO_HEIGHT = 1.3
"""of walker's torso where its position is 0, in m"""
REWARDS: dict[str, BatchReward] = {
    "cartpole-balance": _cartpole,
    "cartpole-swingup": _cartpole,
    "cheetah-run": _cheetah,
    "walker-run": _walker,
    "walker-stand": _walker,
    "walker-walk": _walker,
}
