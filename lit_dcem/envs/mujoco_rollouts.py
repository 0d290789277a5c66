"""Rollouts of a dm_control environment from given states, in MuJoCo's own threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mujoco as untyped
import mujoco.rollout
import numpy as np

from lit_dcem.envs.rendering import mujoco_gl
from lit_dcem.envs.task_rewards import BatchReward, States

with mujoco_gl("disabled"):
    from dm_control.rl.control import Environment

mujoco: Any = untyped  # written in C++
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
"""time, positions, velocities and activations"""
WARM = mujoco.mjtState.mjSTATE_WARMSTART.value
"""accelerations from which MuJoCo's solver starts"""
BREAKDOWNS = [mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC]
"""NaN, infinite or huge values"""


class MujocoRollouts:
    """Simulates a task of dm_control from any states ``[M, S]``: `FULL` and `WARM` of MuJoCo, one after the other.

    Args:
        environment: whose model and task to use; its own state changes.
        reward: the task's reward of many states at once; by default the task itself computes one after the other.
        action_repeat: control steps for each action.
        num_threads: 1 for none but the caller's.
    """

    def __init__(
        self, environment: Environment, reward: BatchReward | None, action_repeat: int, num_threads: int
    ) -> None:
        self._environment = environment
        self._reward = reward
        self._repeat = action_repeat
        self._pool = mujoco.rollout.Rollout(nthread=num_threads if num_threads > 1 else 0)
        self._datas = [mujoco.MjData(self._model) for _ in range(num_threads)]
        self._full_size = mujoco.mj_stateSize(self._model, FULL)

    @property
    def state(self) -> np.ndarray:
        """The present state ``[S]`` of the environment."""
        parts = []
        for kind in (FULL, WARM):
            parts.append(np.empty(mujoco.mj_stateSize(self._model, kind)))
            mujoco.mj_getState(self._model, self._data, parts[-1], kind)
        return np.concatenate(parts)

    def place(self, state: np.ndarray, control: np.ndarray | float = 0.0) -> None:
        """Put the environment into a state ``[S]``."""
        self._data.ctrl[:] = control
        mujoco.mj_setState(self._model, self._data, state[: self._full_size], FULL)
        mujoco.mj_setState(self._model, self._data, state[self._full_size :], WARM)

    def step(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The states ``[M, S]`` after one action ``[M, A]`` each; NaN where the simulation broke down."""
        after = []
        for state, action in zip(states, actions, strict=True):
            self.place(state, action)
            before = self._num_breakdowns
            mujoco.mj_step(self._model, self._data, self._repeat * self._substeps)
            broken = self._num_breakdowns > before
            after.append(np.full_like(state, np.nan) if broken else self.state)
        return np.stack(after)

    def run(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rewards ``[M, H]`` of actions ``[M, H, A]``, NaN once the simulation broke down, and the last states.

        The last states have no start for MuJoCo's solver (zeros), which rollouts do not tell.
        """
        full, warm = np.split(np.asarray(states, np.float64), [self._full_size], 1)
        controls = np.repeat(np.asarray(actions, np.float64), self._repeat * self._substeps, 1)
        # The sensors of a state come with the step after it, so that there is one more step.
        controls = np.concatenate([controls, controls[:, -1:]], 1)
        models = [self._model] * len(full)
        after, sensors = self._pool.rollout(models, self._datas, full, controls, initial_warmstart=warm)
        ends = np.arange(self._substeps - 1, controls.shape[1] - 1, self._substeps)
        rewards = self._rewards(after[:, ends], controls[:, ends], sensors, ends)
        # One step later: a time that starts anew at the first step looks right.
        broken = self._broken(full, after)[:, ends + 1]
        totals = np.where(broken, np.nan, rewards).reshape(len(full), -1, self._repeat).sum(2)
        return totals, np.concatenate([after[:, -2], np.zeros_like(warm)], 1)

    def _rewards(self, full: np.ndarray, controls: np.ndarray, sensors: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Rewards ``[M, T]`` of states ``[M, T, S']``."""
        if self._reward is None:
            parts = full, controls, sensors[:, ends]
            return np.array([[*self._rewards_one_by_one(*each)] for each in zip(*parts, strict=True)])
        nq, nv = self._model.nq, self._model.nv
        qpos, qvel, _ = np.split(full[..., 1:], [nq, nq + nv], -1)
        parts = (
            part.reshape(full.shape[0] * len(ends), part.shape[-1])
            for part in (qpos, qvel, sensors[:, ends + 1], controls)
        )
        return self._reward(self._environment.task, States(*parts)).reshape(full.shape[:2])

    def _rewards_one_by_one(self, full: np.ndarray, controls: np.ndarray, sensors: np.ndarray) -> Iterator[float]:
        """Rewards ``[T]`` as dm_control computes them: with sensors of acceleration from the step before the state."""
        for state, control, sensor in zip(full, controls, sensors, strict=True):
            self._data.ctrl[:] = control
            mujoco.mj_setState(self._model, self._data, state, FULL)
            self._data.sensordata[:] = sensor
            mujoco.mj_step1(self._model, self._data)
            yield self._environment.task.get_reward(self._environment.physics)

    def _broken(self, full: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Whether ``[M, T]`` a simulation broke down at a step or before: its time then stands still or starts anew."""
        step = self._model.opt.timestep
        is_on_time = np.abs(after[..., 0] - full[:, :1] - step * np.arange(1, after.shape[1] + 1)) < step / 2
        return np.logical_or.accumulate(~(is_on_time & np.isfinite(after).all(-1)), 1)

    @property
    def _num_breakdowns(self) -> int:
        """How often the environment's simulation broke down, and began anew by itself."""
        return sum(self._data.warning[int(kind)].number for kind in BREAKDOWNS)

    @property
    def _model(self) -> Any:
        return self._environment.physics.model.ptr

    @property
    def _data(self) -> Any:
        return self._environment.physics.data.ptr

    @property
    def _substeps(self) -> int:
        """Steps of physics in a control step."""
        return self._environment._n_sub_steps
