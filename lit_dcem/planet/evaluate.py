"""``lit-dcem evaluate`` for what plans in an environment: returns of whole episodes, without exploration noise."""

from __future__ import annotations

from typing import Any

import torch
from jsonargparse import Namespace
from rich.console import Console
from torch import nn

from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import TEST_SEED, EnvironmentData
from lit_dcem.planet.data.evaluation_episodes import Evaluation, evaluate_episodes
from lit_dcem.planet.data.loading import load_rollouts
from lit_dcem.planet.phases.planet import Planet
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.solvers.budget import trajectories_of
from lit_dcem.training.runs import checkpoint_of
from lit_dcem.training.statistics import bootstrap_interval
from lit_dcem.training.video import Film

MOST_AT_ONCE = 20
"""environments that are planned for in one call: more would only need more memory"""
SIMULATION_FRAMES_PER_SECOND = 25


def reports(
    module: Planet, planner: nn.Module | None, options: Namespace, console: Console
) -> tuple[dict[str, dict[str, Any]], Film | None]:
    """Run ``options.episodes`` episodes, of the checkpoint's own planner or another one; film the first if asked to.

    Raises:
        UsageError: options of another kind of planner.
    """
    planner = _planner(module, planner)
    rollouts = load_rollouts(checkpoint_of(options.checkpoint))
    if options.env not in (None, rollouts.env):
        raise UsageError(f"--env must be that of the checkpoint, {rollouts.env}, got {options.env}.")
    with console.status(f"{rollouts.env}: {options.episodes} episodes"):
        evaluation = _evaluate(ModelPolicy(module.world_model, planner), rollouts, options)
    film = (evaluation.frames.numpy(), SIMULATION_FRAMES_PER_SECOND) if options.video is not None else None
    return {type(module).__name__: _report(evaluation, planner, rollouts, options)}, film


def _planner(module: Planet, planner: nn.Module | None) -> ModelPlanner:
    """The checkpoint's own if there is no other; another one that has a decoder or value is given its."""
    own = module.planner
    if planner is None:
        return own
    if not isinstance(planner, ModelPlanner):
        rule = f"A planner for {type(module).__name__} must be a CEMPlanner or LatentPlanner"
        raise UsageError(f"{rule}, got {type(planner).__name__}.")
    if isinstance(planner, LatentPlanner):
        if not isinstance(own, LatentPlanner):
            raise UsageError(f"A LatentPlanner needs a checkpoint with a decoder, got one of {type(module).__name__}.")
        planner.decoder = own.decoder
        planner.horizon = own.horizon
    if planner.value is not None:
        if own.value is None:
            raise UsageError(f"A planner with a value needs a checkpoint with one, got one of {type(module).__name__}.")
        planner.value = own.value
    return planner


def _evaluate(policy: ModelPolicy, rollouts: EnvironmentData, options: Namespace) -> Evaluation:
    film = options.video is not None
    if options.env_seed is None:
        envs = rollouts.make_envs(min(options.episodes, MOST_AT_ONCE), TEST_SEED + options.seed)
        return evaluate_episodes(policy, envs, options.episodes, seed=options.seed, film=film)
    seeds, rounds = _env_seeds(options), list[Evaluation]()
    for start in range(0, len(seeds), MOST_AT_ONCE):
        own = seeds[start : start + MOST_AT_ONCE]
        envs = rollouts.make_envs(len(own), own)
        rounds.append(evaluate_episodes(policy, envs, len(own), seed=options.seed + start, film=film and not start))
    return rounds[0]._replace(returns=torch.cat([each.returns for each in rounds]))


def _env_seeds(options: Namespace) -> list[int]:
    """Of the environment of each episode, if it has one of its own."""
    return [] if options.env_seed is None else [options.env_seed + index for index in range(options.episodes)]


def _report(
    evaluation: Evaluation, planner: ModelPlanner, rollouts: EnvironmentData, options: Namespace
) -> dict[str, Any]:
    returns = evaluation.returns.double()
    quartiles = torch.quantile(returns, returns.new_tensor([0.25, 0.5, 0.75])).tolist()
    num_envs = min(options.episodes, MOST_AT_ONCE)
    return {
        "environment": rollouts.env,
        "action_repeat": rollouts.action_repeat,
        "episodes": len(returns),
        "median": quartiles[1],
        "quartiles": [quartiles[0], quartiles[2]],
        "mean": returns.mean().item(),
        "mean_interval": bootstrap_interval(returns),
        "trajectories_a_decision": trajectories_of(planner),
        "seconds_per_decision": evaluation.seconds_per_decision / num_envs,
        "environments_at_once": num_envs,
        "returns": returns.tolist(),
        "env_seeds": _env_seeds(options) or None,
    }
