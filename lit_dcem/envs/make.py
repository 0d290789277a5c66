"""Make environments by name."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from lit_dcem.envs.simulation import Simulation
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError

ACTION_REPEATS = {
    "ball_in_cup-catch": 4,
    "cartpole-swingup": 8,
    "cheetah-run": 4,
    "finger-spin": 2,
    "reacher-easy": 4,
    "walker-walk": 2,
}
"""of PlaNet (arXiv 1811.04551, table in its appendix)"""
LONGEST = 10_000
"""simulator steps after which an episode is cut off if no limit is known; ten times the limit of most tasks"""


def make(
    name: str,
    num_envs: int = 1,
    action_repeat: int = 1,
    seed: int | Sequence[int] = 0,
    rank: int = 0,
    time_limit: int | None = None,
    env_options: Mapping[str, Any] | None = None,
) -> VectorEnv:
    """Make environments of one name in this process.

    Args:
        name: a task of the dm_control suite (``cheetah-run``, ``ball_in_cup-catch``), or the id of a Gymnasium
            environment with Box observations and actions (``Pendulum-v1``, ``package:Name-v0``).
        num_envs: number of environments.
        action_repeat: simulator steps for each action.
        seed: one seed for all environments, or one for each.
        rank: rank of the process. Processes with the same seed see different episodes.
        time_limit: simulator steps (action repeat included) after which an episode is cut off. An episode may end
            earlier, at the end of the task or at the environment's own limit. ``env_options`` may set that limit:
            ``max_episode_steps`` in Gymnasium, ``time_limit`` [s] in dm_control. If no limit is known, the default is
            10,000, and a warning says so.
        env_options: keyword arguments of `gymnasium.make`, which passes them to the environment, or of the task's
            function in dm_control.suite, including ``environment_kwargs``.

    Raises:
        UsageError: no environment has this name, its spaces are not supported, or it does not take the options.
        ValueError: num_envs, action_repeat or time_limit is below 1.
    """
    kind = _kind(name)
    simulations = [kind(name, env_options) for _ in range(num_envs)]
    if time_limit is None and simulations and simulations[0].time_limit is None:
        time_limit = LONGEST
        if rank == 0:
            _warn_of_no_limit(name)
    return VectorEnv(simulations, action_repeat, seed, rank, time_limit)


def make_simulation(name: str, env_options: Mapping[str, Any] | None = None) -> Simulation:
    """Make one environment, in its own units.

    Args:
        name: as in `make`.
        env_options: as in `make`.

    Raises:
        UsageError: as in `make`.
    """
    return _kind(name)(name, env_options)


def usual_action_repeat(name: str) -> int:
    """Simulator steps for each action: as in PlaNet for its tasks, 2 for others of dm_control, 1 for Gymnasium."""
    from lit_dcem.envs import suite

    return ACTION_REPEATS.get(name, 2 if name in suite.NAMES else 1)


@cache
def _warn_of_no_limit(name: str) -> None:
    """Warn once for each name: every validation makes its environments again."""
    warnings.warn(
        f"{name} has no time limit, so its episodes are cut off after {LONGEST:,} simulator steps; "
        "set time_limit to change it.",
        stacklevel=3,
    )


def _kind(name: str) -> Callable[[str, Mapping[str, Any] | None], Simulation]:
    """Find the adapter for the name. Each adapter imports its packages when it is first needed."""
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
