"""Environments by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from lit_dcem.envs.simulation import Simulation
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError


def make(name: str, num_envs: int = 1, action_repeat: int = 1, seed: int = 0, rank: int = 0) -> VectorEnv:
    """Environments of one name, in this process.

    Args:
        name: a task of the dm_control suite (``cheetah-run``, ``ball_in_cup-catch``), or the id of a Gymnasium
            environment with Box observations and actions (``Pendulum-v1``, ``package:Name-v0``).
        num_envs: how many.
        action_repeat: simulator steps for each action.
        seed: of all the episodes.
        rank: of the process; processes with one seed see different episodes.

    Raises:
        UsageError: no environment has this name, or it does not fit.
    """
    kind = _kind(name)
    return VectorEnv([kind(name) for _ in range(num_envs)], action_repeat, seed, rank)


def _kind(name: str) -> Callable[[str], Simulation]:
    """The adapter that knows the name; each loads its packages when it is first needed."""
    if ":" not in name and not name.rpartition("-v")[2].isdigit():
        from lit_dcem.envs import suite

        if name in suite.NAMES:
            return suite.SuiteSimulation
    from lit_dcem.envs import gym

    if ":" in name or name in gym.names():
        return gym.GymSimulation
    raise UsageError(f"An environment must be a task of dm_control or Gymnasium, got {name}{_suggestion(name)}.")


def _suggestion(name: str) -> str:
    from lit_dcem.envs import gym, suite

    known = {spelling.lower().replace("_", "-"): spelling for spelling in (*gym.names(), *suite.NAMES)}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=3)
    return f" (closest: {', '.join(known[spelling] for spelling in close)})" if close else ""
