"""``lit-dcem evaluate``: measure a planner, by the cost of its plans (cartpole) or by what it gets in closed loop."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from jsonargparse import ActionConfigFile, Namespace
from pytorch_lightning.utilities.seed import isolate_rng
from rich.console import Console
from torch import Tensor, nn

from lit_dcem.cartpole.closed_loop import Episode, control, plan_costs
from lit_dcem.cartpole.film import FRAMES_PER_SECOND, episode_frames
from lit_dcem.cartpole.module import EXPERT_COST, CartpoleEmbedding
from lit_dcem.cartpole.pca import PCAPlanner
from lit_dcem.cartpole.planners import CartpolePlanner, FullSpacePlanner
from lit_dcem.cartpole.states import held_out_states, validation_states
from lit_dcem.cli.overlays import check_configs
from lit_dcem.cli.table import Report, table_of
from lit_dcem.cli.train import Parser, one_sentence
from lit_dcem.errors import UsageError
from lit_dcem.files.replacing import check_writable, open_replacing
from lit_dcem.files.shipped import shipped
from lit_dcem.planet import evaluate as evaluate_rollouts
from lit_dcem.planet.phases.planet import Planet
from lit_dcem.planet.planning.cem import CEMPlanner
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.training.runs import checkpoint_of, load_module
from lit_dcem.training.statistics import bootstrap_interval
from lit_dcem.training.video import SUFFIXES, Film, write_video

STATES: dict[str, Callable[[], Tensor]] = {"validation": validation_states, "held-out": held_out_states}
ENVIRONMENTS = ("cartpole-swingup",)


def run(arguments: list[str]) -> None:
    """Parse the arguments (``["--config", FILE, ...]``), measure, print a table, and write what was asked for.

    Raises:
        UsageError: what was typed cannot be done.
    """
    check_configs(arguments)
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
    except ValueError as error:  # of a path that cannot be one
        raise UsageError(one_sentence(str(error))) from error
    _check(options)
    console, module = Console(), load_module(checkpoint_of(options.checkpoint)) if options.checkpoint else None
    if isinstance(module, Planet):
        planner = _built(parser, options)[1] if options.get("planner") else None
        reports, film = evaluate_rollouts.reports(module, planner, options, console)
    else:
        reports, film = _cartpole(*_cartpole_planner(module, parser, options), options, console)
    console.print(table_of(reports))
    if options.out is not None:
        _write(options, reports)
    if film is not None:  # the last, as it needs the most room
        write_video(Path(options.video), *film)


def _cartpole(
    name: str, planner: nn.Module, options: Namespace, console: Console
) -> tuple[dict[str, Report], Film | None]:
    _require_cartpole_options(options)
    states = STATES[options.states]()
    if options.env is None:
        with console.status(f"{name}: {len(states)} states, {options.seeds} seeds"):
            return {name: _plans(planner, states, options.seeds)}, None
    rivals = {name: planner} | _expert(options)
    return _closed_loops(rivals, states[: options.episodes], options, console)


def _parser() -> Parser:
    parser = Parser(prog="lit-dcem evaluate", description="Measure a planner: of --config, or of a checkpoint.")
    add = parser.add_argument
    add("--config", action=ActionConfigFile, help="YAML file with a planner, and any of these options")
    kinds = ", ".join(kind.__name__ for kind in (FullSpacePlanner, PCAPlanner, CEMPlanner, LatentPlanner))
    parser.add_subclass_arguments(
        (CartpolePlanner, ModelPlanner), "planner", required=False, help=f"{kinds}, or your own"
    )
    add("--checkpoint", type=str | None, metavar="FILE", help="run folder or checkpoint of an experiment that plans")
    add("--states", type=str, default="validation", help=f"{' or '.join(STATES)}: 100 or 1,000 initial states")
    add("--seeds", type=int, default=5, help="seeds of the planner's noise to average over: 0 .. N-1")
    add("--env", type=str | None, help=f"closed loop in {', '.join(ENVIRONMENTS)}, instead of the cost of plans")
    add("--episodes", type=int, default=100, help="closed loop: how many; of a cartpole from the first N states")
    add("--seed", type=int, default=0, help="planet: of the episodes and the planner's noise")
    add("--env_seed", type=int | None, metavar="N", help="planet: episode i in an environment of seed N + i")
    add("--steps", type=int, default=200, help="closed loop: of 0.05 s")
    add("--keep_plans", type=bool, default=True, help="closed loop: keep a plan while no new one is cheaper")
    add("--expert", type=str | None, metavar="CONFIG", help="closed loop: planner to compare with; the paper's if none")
    add("--video", type=str | None, metavar="FILE", help="closed loop: .mp4 or .gif of the first episode")
    add("--out", type=str | None, metavar="FILE", help="all numbers, as JSON")
    return parser


def _check(options: Namespace) -> None:
    """What holds for every kind of planner."""
    for name in ("seeds", "episodes", "steps"):
        _require(options[name] >= 1, f"--{name} must be at least 1", options[name])
    for name in ("seed", "env_seed"):
        _require(0 <= (options[name] or 0) < 2**63, f"--{name} must be at least 0 and below 2**63", options[name])
    if options.video is not None:
        _require(Path(options.video).suffix in SUFFIXES, f"--video must end in {' or '.join(SUFFIXES)}", options.video)
    given = {f"--{name}": options[name] for name in ("out", "video") if options[name] is not None}
    for name, path in given.items():
        _require(not os.path.isdir(path), "--out and --video must be files", f"the folder {path}")
        check_writable(path, name)
    _require(len(set(given.values())) == len(given), "--out and --video must be different files", options.out)


def _require_cartpole_options(options: Namespace) -> None:
    _require(options.states in STATES, f"--states must be {' or '.join(STATES)}", options.states)
    _require(options.env in (None, *ENVIRONMENTS), f"--env must be {' or '.join(ENVIRONMENTS)}", options.env)
    _require(options.env_seed is None, "--env_seed needs a checkpoint of PlaNet", options.env_seed)
    count = len(STATES[options.states]())
    _require(options.episodes <= count, f"--episodes must be between 1 and {count}", options.episodes)
    if options.video is not None:
        _require(options.env is not None, "--video needs --env", f"--video {options.video} alone")


def _require(holds: bool, rule: str, got: object) -> None:
    if not holds:
        raise UsageError(f"{rule}, got {got}.")


def _cartpole_planner(module: nn.Module | None, parser: Parser, options: Namespace) -> tuple[str, nn.Module]:
    """Name and planner: the module of a checkpoint, or what a config says."""
    given = [name for name in ("planner", "checkpoint") if options.get(name)]
    _require(len(given) == 1, "Give either --config with a planner or --checkpoint", " and ".join(given) or "neither")
    if module is None:
        name, planner = _built(parser, options)
        rule = f"A {type(planner).__name__} needs --checkpoint with a world model"
        _require(not isinstance(planner, ModelPlanner), rule, "none")
        return name, planner
    rule = "evaluate needs a checkpoint of CartpoleEmbedding or PlanetPhase1 to 3"
    _require(isinstance(module, CartpoleEmbedding), rule, f"{type(module).__name__} in {options.checkpoint}")
    return type(module).__name__, module


def _built(parser: Parser, options: Namespace) -> tuple[str, nn.Module]:
    """Name and planner of a config."""
    try:
        planner = parser.instantiate_classes(options)["planner"]
    except (TypeError, ValueError) as error:
        raise UsageError(one_sentence(str(error))) from error
    return type(planner).__name__, planner


def _expert(options: Namespace) -> dict[str, nn.Module]:
    """What to compare with, unless that is what is evaluated."""
    parser = _parser()
    expert = parser.parse_args(["--config", options.expert or str(shipped("configs") / "cartpole_expert.yaml")])
    _require(expert.get("planner"), "--expert must be a config with a planner", options.expert)
    if options.expert is None and options.get("planner") == expert.planner:
        return {}
    return {"expert": _built(parser, expert)[1]}


def _plans(planner: nn.Module, states: Tensor, num_seeds: int) -> Report:
    """The cost of plans: mean over states and seeds, spread over seeds, 95% interval over states."""
    _warm_up(planner, states)
    started = time.perf_counter()
    costs = plan_costs(planner, states, range(num_seeds))
    seconds = (time.perf_counter() - started) / num_seeds
    of_seeds = costs.mean(1)
    return {
        "states": len(states),
        "cost": of_seeds.mean().item(),
        "cost_interval": bootstrap_interval(costs.mean(0)),
        "cost_of_seeds": of_seeds.tolist(),
        "cost_std_over_seeds": of_seeds.std().item() if num_seeds > 1 else None,
        "improvement": of_seeds.mean().item() / EXPERT_COST,
        "trajectories": planner.num_trajectories,
        "seconds": seconds,
    }


def _closed_loops(
    planners: dict[str, nn.Module], states: Tensor, options: Namespace, console: Console
) -> tuple[dict[str, Report], Film | None]:
    """A report of each planner, and the film if one is asked for."""
    reports, filmed = {}, {}
    for name, planner in planners.items():
        with console.status(f"{name}: {options.steps} steps from {len(states)} states"):
            _warm_up(planner, states)
            started = time.perf_counter()
            episode = control(planner, states, options.steps, keep_plans=options.keep_plans)
            seconds = (time.perf_counter() - started) / options.steps
        reports[name] = _loop_report(episode) | {"trajectories": planner.num_trajectories, "seconds": seconds}
        filmed[name] = episode.states[:, 0], episode.forces[:, 0]
    return reports, (episode_frames(filmed), FRAMES_PER_SECOND) if options.video is not None else None


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
    """See that this is a planner, and let a first plan do what it does once (a fit, a compilation) before the clock."""
    try:
        with isolate_rng():
            forces = planner(states[:1])
    except ValueError as error:  # options that do not fit the problem
        raise UsageError(one_sentence(str(error))) from error
    fits = isinstance(forces, Tensor) and forces.dim() == 2 and len(forces) == 1
    got = list(forces.shape) if isinstance(forces, Tensor) else type(forces).__name__
    _require(fits, "A planner must map states [1, 5] to forces [1, H]", f"{got} of {type(planner).__name__}")


def _write(options: Namespace, reports: dict[str, Report]) -> None:
    asked = {key: value for key, value in options.as_dict().items() if key != "config" and value is not None}
    with open_replacing(options.out) as file:
        file.write(json.dumps({"options": asked, "results": reports}, indent=2, default=str) + "\n")
    print(Path(options.out))
