"""The true physics of a dm_control task as a model to plan with, many rollouts at once in MuJoCo's own threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.envs.make import usual_action_repeat
from lit_dcem.errors import UsageError


class Physics:
    """A `PlanningModel` that is the simulator of a task itself: `Planner(Physics("cheetah-run"), ...)`.

    A state ``[..., S]`` in float64 is all that the next steps depend on: time, positions, velocities, activations, and
    the last accelerations, from which MuJoCo's solver starts. Stepping it gives what dm_control's environment gives for
    the same actions, to rounding. Actions are in the environment's units, from ``lower`` to ``upper``. No gradient
    passes. The reward of an action is the sum over its repeats. Episodes never end here, even where the task would
    terminate.

    What a task draws at random into the model, such as the target of reacher, is that of the last `reset`, for all
    states.

    Args:
        name: a task of the dm_control suite, such as ``cheetah-run``.
        action_repeat: simulator steps for each action; by default those that are usual for the task.
        num_threads: of rollouts; by default one for each processor that this process may use.
        options: keyword arguments of the task's function in dm_control.suite.

    Raises:
        UsageError: no task has this name, or it does not take the options.
        ValueError: a number below 1; states or actions of another size, when it is used.
    """

    def __init__(
        self,
        name: str,
        action_repeat: int | None = None,
        num_threads: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        from lit_dcem.envs import suite, task_rewards
        from lit_dcem.envs.mujoco_rollouts import MujocoRollouts

        if name not in suite.NAMES:
            raise UsageError(f"Physics must be those of a task of the dm_control suite, got {name}.")
        self.action_repeat = usual_action_repeat(name) if action_repeat is None else action_repeat
        num_threads = _processors() if num_threads is None else num_threads
        for what, number in (("action_repeat", self.action_repeat), ("num_threads", num_threads)):
            if number < 1:
                raise ValueError(f"{what} must be at least 1, got {number}.")
        self._simulation = suite.SuiteSimulation(name, options)
        self.lower: list[float] = self._simulation.lower.tolist()
        """smallest action"""
        self.upper: list[float] = self._simulation.upper.tolist()
        """largest action"""
        self.time_limit = self._simulation.time_limit
        """simulator steps in an episode; None without a limit"""
        reward = task_rewards.REWARDS.get(name)
        self._rollouts = MujocoRollouts(self._simulation._environment, reward, self.action_repeat, num_threads)

    def reset(self, seed: int = 0) -> Float[Tensor, "1 state"]:
        """The first state of an episode that the seed determines."""
        self._simulation.reset(np.random.SeedSequence(seed))
        return torch.from_numpy(self._rollouts.state).unsqueeze(0)

    def step(
        self, state: Float[Tensor, "*batch state"], action: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch state"]:
        """The states after the actions, each repeated; NaN where the simulation broke down."""
        after = self._rollouts.step(self._states(state), self._actions(action))
        return torch.from_numpy(after).view_as(state)

    def reward(
        self, state: Float[Tensor, "*batch state"], action: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch"]:
        """The sum of the rewards while the actions are repeated."""
        rewards, _ = self._rollouts.run(self._states(state), self._actions(action)[:, None])
        return torch.from_numpy(rewards).view(action.shape[:-1])

    def rollout(
        self, state: Float[Tensor, "batch state"], actions: Float[Tensor, "batch candidates horizon action"]
    ) -> tuple[Float[Tensor, "batch candidates horizon"], Float[Tensor, "batch candidates state"]]:
        """Rewards, NaN once the simulation broke down, and the last states."""
        count, horizon, size = actions.shape[1:]
        states, moves = self._states(state).repeat(count, 0), self._actions(actions).reshape(-1, horizon, size)
        rewards, last = self._rollouts.run(states, moves)
        return torch.from_numpy(rewards).unflatten(0, (-1, count)), torch.from_numpy(last).unflatten(0, (-1, count))

    def render(self, state: Float[Tensor, " state"], height: int = 240, width: int = 320) -> np.ndarray:
        """A uint8 picture ``[height, width, 3]`` of a state."""
        self._rollouts.place(self._states(state)[0])
        self._simulation._environment.physics.forward()
        return self._simulation.render(height, width)

    def _states(self, state: Tensor) -> np.ndarray:
        return _rows("A state", state, len(self._rollouts.state))

    def _actions(self, action: Tensor) -> np.ndarray:
        return _rows("An action", action, len(self.lower))


def _rows(name: str, tensor: Tensor, size: int) -> np.ndarray:
    """The numbers of a tensor ``[..., size]`` as ``[M, size]``."""
    if tensor.shape[-1:] != (size,):
        raise ValueError(f"{name} must have {size} numbers, got {list(tensor.shape)}.")
    return tensor.detach().cpu().double().reshape(-1, size).numpy()


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
