"""``lit-dcem evaluate`` for planners of the cartpole: the cost of their plans, and the closed loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from lit_dcem.cartpole.closed_loop import Episode, control, plan_costs
from lit_dcem.cartpole.film import FRAMES_PER_SECOND, episode_frames
from lit_dcem.cartpole.module import EXPERT_COST, CartpoleEmbedding
from lit_dcem.cartpole.pca import PCAPlanner
from lit_dcem.cartpole.planners import CartpolePlanner, FullSpacePlanner
from lit_dcem.cartpole.states import BATCH, held_out_states, validation_states
from lit_dcem.errors import UsageError, require
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.evaluating import (
    Evaluator,
    Measured,
    Option,
    Own,
    Report,
    Rows,
    at_least,
    episodes,
    interval,
    video,
)
from lit_dcem.training.messages import one_sentence
from lit_dcem.training.progress import progress, ticking
from lit_dcem.training.statistics import bootstrap_interval

STATES: dict[str, Callable[[], Tensor]] = {"validation": validation_states, "held-out": held_out_states}
LOOP = "closed_loop"
ROWS: Rows = {
    "cost": ("mean cost", lambda value: f"{value:.2f}"),
    "cost_interval": ("  95% interval over states", interval(2)),
    "cost_std_over_seeds": ("  standard deviation over seeds", lambda value: "-" if value is None else f"{value:.2f}"),
    "improvement": (f"  over the paper's expert ({EXPERT_COST})", lambda value: f"x {value:.3f}"),
    "seconds_upright": ("seconds upright", lambda value: f"{value:.2f}"),
    "balanced": ("balanced at the end", lambda value: f"{value:.0%}"),
    "trajectories": ("trajectories a plan", lambda value: "-" if value is None else f"{value:,}"),
    "seconds": ("seconds to plan for all states", lambda value: f"{value:.3f}"),
}
OPTIONS = (
    Option(
        "states", str, f"{' or '.join(STATES)}: 100 or 1,000 initial states", "validation",
        holds=STATES.__contains__, rule=f"must be {' or '.join(STATES)}",
    ),
    Option(
        "seeds", int, "average over the seeds 0 .. N-1 of the planner's noise", 5, "N", **at_least(1), excludes=LOOP
    ),
    Option(LOOP, bool, "run the closed loop from the first --episodes states, instead of the cost of plans", False),
    episodes(needs=LOOP),
    Option("steps", int, "closed loop: number of steps, of 0.05 s each", 200, "N", **at_least(1), needs=LOOP),
    Option("keep_plans", bool, "closed loop: keep a plan while no new one is cheaper", True, needs=LOOP),
    Option(
        "expert", str | None, "closed loop: planner to compare with; the paper's by default", None, "CONFIG",
        needs=LOOP, config="cartpole_expert",
    ),
    video(needs=LOOP),
)  # fmt: skip


def measure(
    checkpoint: Checkpoint | None,
    planner: nn.Module | None,
    states: str,
    seeds: int,
    closed_loop: bool,
    episodes: int,
    steps: int,
    keep_plans: bool,
    expert: nn.Module | None,
    video: bool,
) -> Measured:
    """Measure a checkpoint's module or a planner, of which one is given.

    Args:
        checkpoint: of `CartpoleEmbedding`.
        planner: from states ``[B, 5]`` to forces ``[B, H]``; also the module of the checkpoint with other options.
        states: "validation" or "held-out".
        seeds: number of seeds to average the cost of plans over.
        closed_loop: run episodes, instead of measuring the cost of plans.
        episodes: of the closed loop, each from a state of its own.
        steps: of an episode.
        keep_plans: see `control`.
        expert: what the closed loop is compared with, if anything.
        video: film the first episode.

    Raises:
        UsageError: both or neither of checkpoint and planner, more episodes than states, or no planner.
    """
    given = [name for name, value in (("planner", planner), ("checkpoint", checkpoint)) if value is not None]
    changed = checkpoint is not None and isinstance(planner, CartpoleEmbedding)
    rule = "Give either --config with a planner or --checkpoint"
    require(changed or len(given) == 1, rule, " and ".join(given) or "neither")
    measured = checkpoint.module() if planner is None and checkpoint is not None else planner
    assert measured is not None
    name, initial = type(measured).__name__, STATES[states]()
    if not closed_loop:
        return {name: _plans(name, measured, initial, seeds)}, None
    require(episodes <= len(initial), f"--episodes must be between 1 and {len(initial)}", episodes)
    rivals = {name: measured} | ({} if expert is None else {"expert": expert})
    return _closed_loops(rivals, initial[:episodes], steps, keep_plans, video)


def _plans(name: str, planner: nn.Module, states: Tensor, num_seeds: int) -> Report:
    """The cost of plans: mean over states and seeds, spread over seeds, 95% interval over states."""
    _warm_up(planner, states)
    started = time.perf_counter()
    with progress(f"{name}: {len(states)} states, {num_seeds} seeds", num_seeds * _calls(states)) as tick:
        costs = plan_costs(ticking(planner, tick), states, range(num_seeds))
    seconds = (time.perf_counter() - started) / num_seeds
    of_seeds = costs.mean(1)
    return {
        "states": len(states),
        "cost": of_seeds.mean().item(),
        "cost_interval": bootstrap_interval(costs.mean(0)),
        "cost_of_seeds": of_seeds.tolist(),
        "cost_std_over_seeds": of_seeds.std().item() if num_seeds > 1 else None,
        "improvement": of_seeds.mean().item() / EXPERT_COST,
        "trajectories": getattr(planner, "num_trajectories", None),
        "seconds": seconds,
    }


def _closed_loops(
    planners: Mapping[str, nn.Module], states: Tensor, num_steps: int, keep_plans: bool, video: bool
) -> Measured:
    """A report of each planner, and the film of all of them if one is asked for."""
    reports, filmed = {}, {}
    for name, planner in planners.items():
        _warm_up(planner, states)
        started = time.perf_counter()
        with progress(f"{name}: {num_steps} steps from {len(states)} states", num_steps * _calls(states)) as tick:
            episode = control(ticking(planner, tick), states, num_steps, keep_plans=keep_plans)
        seconds = (time.perf_counter() - started) / num_steps
        reports[name] = _loop_report(episode) | {
            "trajectories": getattr(planner, "num_trajectories", None),
            "seconds": seconds,
        }
        filmed[name] = episode.states[:, 0], episode.forces[:, 0]
    return reports, (episode_frames(filmed), FRAMES_PER_SECOND) if video else None


def _calls(states: Tensor) -> int:
    """Of a planner, for one plan from each state."""
    return math.ceil(len(states) / BATCH)


def _loop_report(episode: Episode) -> Report:
    steps, episodes = episode.forces.shape
    return {
        "episodes": episodes,
        "steps": steps,
        "cost": episode.cost.mean().item(),
        "cost_interval": bootstrap_interval(episode.cost),
        "seconds_upright": episode.time_upright.mean().item(),
        "balanced": episode.balanced.float().mean().item(),
    }


def _warm_up(planner: nn.Module, states: Tensor) -> None:
    """Check that this is a planner, and keep what a first plan does once (a fit, a compilation) out of the timing."""
    try:
        with isolate_rng():  # a planner of your own draws from the global generator
            forces = planner(states[:1])
    except ValueError as error:  # options that do not fit the problem
        raise UsageError(one_sentence(str(error))) from error
    fits = isinstance(forces, Tensor) and forces.dim() == 2 and len(forces) == 1
    got = list(forces.shape) if isinstance(forces, Tensor) else type(forces).__name__
    require(fits, "A planner must map states [1, 5] to forces [1, H]", f"{got} of {type(planner).__name__}")


def own_planner(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config of the module, which is a planner."""
    config = checkpoint.trusted_config.model
    options = {name: value for name, value in config.items() if name not in ("_class_path", "_instantiator")}
    return {"class_path": config["_class_path"], "init_args": options}


EVALUATOR = Evaluator(
    title="cartpole",
    subject="a planner of the cartpole",
    modules=(CartpoleEmbedding,),
    planners=(CartpolePlanner,),
    examples=(FullSpacePlanner, PCAPlanner),
    options=OPTIONS,
    rows=ROWS,
    measure=measure,
    own=Own(
        kinds=(CartpoleEmbedding,),
        config=own_planner,
        part="",
        trained=("decoder",),
        options=("solver", "initial_std", "answer"),
    ),
)
