"""Environments by name."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from lit_dcem.envs.simulation import Simulation
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError

LONGEST = 10_000
"""simulator steps after which an episode is cut off that no limit is known for; ten times what most tasks have"""


def make(
    name: str,
    num_envs: int = 1,
    action_repeat: int = 1,
    seed: int | Sequence[int] = 0,
    rank: int = 0,
    time_limit: int | None = None,
    env_options: Mapping[str, Any] | None = None,
) -> VectorEnv:
    """Environments of one name, in this process.

    Args:
        name: a task of the dm_control suite (``cheetah-run``, ``ball_in_cup-catch``), or the id of a Gymnasium
            environment with Box observations and actions (``Pendulum-v1``, ``package:Name-v0``).
        num_envs: how many.
        action_repeat: simulator steps for each action.
        seed: of all the episodes, or one for each environment.
        rank: of the process; processes with one seed see different episodes.
        time_limit: simulator steps (action repeat included) after which an episode is cut off, if it has not ended
            before: by itself, or by a limit of its own, which ``env_options`` may set (``max_episode_steps`` of
            Gymnasium, ``time_limit`` [s] of dm_control). Where no limit is known, a warning says so, and it is 10,000.
        env_options: keyword arguments of `gymnasium.make`, and so of the environment; or of the task's function in
            dm_control.suite, ``environment_kwargs`` among them.

    Raises:
        UsageError: no environment has this name, or it does not fit, or does not take the options.
        ValueError: a number below 1.
    """
    kind = _kind(name)
    simulations = [kind(name, env_options) for _ in range(num_envs)]
    if time_limit is None and simulations and not simulations[0].has_time_limit:
        time_limit = LONGEST
        if rank == 0:
            _warn_of_no_limit(name)
    return VectorEnv(simulations, action_repeat, seed, rank, time_limit)


def make_simulation(name: str, env_options: Mapping[str, Any] | None = None) -> Simulation:
    """One environment by itself, in its own units.

    Args:
        name: as in `make`.
        env_options: as in `make`.

    Raises:
        UsageError: as in `make`.
    """
    return _kind(name)(name, env_options)


@cache
def _warn_of_no_limit(name: str) -> None:
    """Once for each name; validation makes its environments anew every time."""
    warnings.warn(
        f"{name} has no time limit, so its episodes are cut off after {LONGEST:,} simulator steps: choose time_limit.",
        stacklevel=3,
    )


def _kind(name: str) -> Callable[[str, Mapping[str, Any] | None], Simulation]:
    """The adapter that knows the name; each loads its packages when it is first needed."""
    if ":" not in name and not name.rpartition("-v")[2].isdigit():
        from lit_dcem.envs import suite

        if name in suite.NAMES:
            return suite.SuiteSimulation
    from lit_dcem.envs import gym

    module, colon, rest = name.partition(":")
    if (module and colon and rest and ":" not in rest) or name in gym.names():
        return gym.GymSimulation
    raise UsageError(f"An environment must be a task of dm_control or Gymnasium, got {name}{_suggestion(name)}.")


def _suggestion(name: str) -> str:
    from lit_dcem.envs import gym, suite

    known = {spelling.lower().replace("_", "-"): spelling for spelling in (*gym.names(), *suite.NAMES)}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=3)
    return f" (closest: {', '.join(known[spelling] for spelling in close)})" if close else ""
