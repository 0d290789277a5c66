"""``lit-dcem evaluate`` for PlaNet: returns of whole episodes, without exploration noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import TEST_SEED, EnvironmentData
from lit_dcem.planet.data.evaluation_episodes import Evaluation, evaluate_episodes
from lit_dcem.planet.phases.planet import Planet
from lit_dcem.planet.planning.cem import CEMPlanner
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import COMPARISONS, ModelPlanner
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.planet.planning.search_name import search_of
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.evaluating import Evaluator, Measured, Option, Own, Report, Rows, episodes, interval, video
from lit_dcem.training.progress import progress, ticking
from lit_dcem.training.statistics import bootstrap_interval

MOST_AT_ONCE = 20
"""environments that are planned for in one call: more would only need more memory"""
SIMULATION_FRAMES_PER_SECOND = 25
ROWS: Rows = {
    "search": ("search", str),
    "median": ("median return", lambda value: f"{value:.1f}"),
    "quartiles": ("  quartiles", interval(1)),
    "mean": ("mean return", lambda value: f"{value:.1f}"),
    "mean_interval": ("  95% interval", interval(1)),
    "trajectories_a_decision": ("trajectories a decision", lambda value: f"{value:,}"),
    "trajectories_to_compare": ("  and to compare plans", str),
    "seconds_per_decision": ("seconds a decision, one environment", lambda value: f"{value:.4f}"),
}


def _is_seed(value: int | None) -> bool:
    return 0 <= (value or 0) < 2**63


SEED_RULE = "must be at least 0 and below 2**63"
OPTIONS = (
    episodes(),
    video(),
    Option("seed", int, "seed of the episodes and of the planner's noise", 0, "N", _is_seed, SEED_RULE),
    Option("env_seed", int | None, "run episode i in an environment of seed N + i", None, "N", _is_seed, SEED_RULE),
)


def measure(
    checkpoint: Checkpoint | None,
    planner: nn.Module | None,
    episodes: int,
    seed: int,
    env_seed: int | None,
    video: bool,
) -> Measured:
    """Run episodes of a checkpoint's own planner, or of another one in the checkpoint's world model.

    Args:
        checkpoint: of a phase of PlaNet.
        planner: None for the checkpoint's own; also this one with other options.
        episodes: number of them.
        seed: of the environments, unless they have seeds of their own, and of the planner's noise.
        env_seed: of the environment of episode 0; episode i has this plus i.
        video: film the first episode.

    Raises:
        UsageError: no checkpoint, or a planner that does not fit it.
    """
    rule = f"A {type(planner).__name__} needs --checkpoint with a world model"
    if checkpoint is None:
        raise UsageError(f"{rule}, got none.")
    module = checkpoint.module()
    assert isinstance(module, Planet)
    chosen, data = _planner(module, planner), checkpoint.data(EnvironmentData)
    seeds = None if env_seed is None else [env_seed + index for index in range(episodes)]
    evaluation = _evaluate(ModelPolicy(module.world_model, chosen), data, episodes, seed, seeds, video)
    film = (evaluation.frames.numpy(), SIMULATION_FRAMES_PER_SECOND) if video else None
    return {type(module).__name__: _report(evaluation, chosen, data, seeds)}, film


def _planner(module: Planet, planner: nn.Module | None) -> ModelPlanner:
    """The checkpoint's own by default; another one is given the checkpoint's decoder or value if it needs one."""
    own = module.planner
    if planner is None:
        return own
    if not isinstance(planner, ModelPlanner):
        rule = f"A planner for {type(module).__name__} must be a CEMPlanner or LatentPlanner"
        raise UsageError(f"{rule}, got {type(planner).__name__}.")
    if isinstance(planner, LatentPlanner):
        if not isinstance(own, LatentPlanner):
            raise UsageError(f"A LatentPlanner needs a checkpoint with a decoder, got one of {type(module).__name__}.")
        planner.use_decoder(own.decoder)
    if planner.value is not None:
        if own.value is None:
            raise UsageError(f"A planner with a value needs a checkpoint with one, got one of {type(module).__name__}.")
        planner.value = own.value
    return planner


def _evaluate(
    policy: ModelPolicy, data: EnvironmentData, num_episodes: int, seed: int, env_seeds: list[int] | None, film: bool
) -> Evaluation:
    """Episodes in environments of one seed; or with a seed for each, in rounds of `MOST_AT_ONCE`."""
    if env_seeds is None:
        envs = data.make_envs(min(num_episodes, MOST_AT_ONCE), TEST_SEED + seed)
        return _round(policy, envs, num_episodes, seed, film, f"{data.env}: {num_episodes} episodes")
    rounds = list[Evaluation]()
    for start in range(0, num_episodes, MOST_AT_ONCE):
        own = env_seeds[start : start + MOST_AT_ONCE]
        name = f"{data.env}: episodes {start + 1} to {start + len(own)} of {num_episodes}"
        rounds.append(_round(policy, data.make_envs(len(own), own), len(own), seed + start, film and not start, name))
    returns, broken = torch.cat([each.returns for each in rounds]), sum(each.num_diverged for each in rounds)
    return rounds[0]._replace(returns=returns, num_diverged=broken)


def _round(
    policy: ModelPolicy, envs: VectorEnv, num_episodes: int, seed: int, film: bool, description: str
) -> Evaluation:
    """Episodes in some environments, with a bar that counts decisions."""
    length = envs.longest_episode
    decisions = None if length is None else length * math.ceil(num_episodes / envs.num_envs)
    with progress(description, decisions) as tick:
        return evaluate_episodes(ticking(policy.with_seed(seed), tick), envs, num_episodes, film=film)


def _report(
    evaluation: Evaluation, planner: ModelPlanner, data: EnvironmentData, env_seeds: list[int] | None
) -> Report:
    returns = evaluation.returns.double()
    quartiles = torch.quantile(returns, returns.new_tensor([0.25, 0.5, 0.75])).tolist()
    num_envs = min(len(returns), MOST_AT_ONCE)
    return {
        "environment": data.env,
        "action_repeat": data.action_repeat,
        "episodes": len(returns),
        "diverged": evaluation.num_diverged,
        "median": quartiles[1],
        "quartiles": [quartiles[0], quartiles[2]],
        "mean": returns.mean().item(),
        "mean_interval": bootstrap_interval(returns),
        "search": search_of(planner),
        "trajectories_a_decision": planner.search.num_evaluations,
        **({"trajectories_to_compare": _to_compare(planner)} if planner.options.keep_plans else {}),
        "seconds_per_decision": evaluation.seconds_per_decision / num_envs,
        "environments_at_once": num_envs,
        "returns": returns.tolist(),
        "env_seeds": env_seeds,
    }


def _to_compare(planner: ModelPlanner) -> int:
    """Trajectories that a decision takes after its search, to compare the new plan with the last one."""
    return 2 * (COMPARISONS if planner.options.sample else 1)


def own_planner(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config of a phase's planner, with the precision that the phase gave it."""
    config, module = checkpoint.trusted_config.model.get("planner"), checkpoint.module()
    if not isinstance(config, Mapping) or not isinstance(module, Planet):
        return {}
    options = config.get("init_args") or {}
    settled = {"precision": module.planner.options.precision} if "precision" in options else {}
    return {**config, "init_args": {**options, **settled}}


EVALUATOR = Evaluator(
    title="PlaNet",
    subject="a checkpoint of PlaNet",
    modules=(Planet,),
    planners=(ModelPlanner,),
    examples=(CEMPlanner, LatentPlanner),
    options=OPTIONS,
    rows=ROWS,
    measure=measure,
    own=Own(
        kinds=(ModelPlanner,),
        config=own_planner,
        part="planner",
        trained=("decoder", "value"),
        optional=("value",),
    ),
)
