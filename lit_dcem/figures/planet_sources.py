"""Figures of PlaNet from its files: events, returns and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from matplotlib.figure import Figure

from lit_dcem.errors import UsageError
from lit_dcem.figures import planet_curves, planet_model, planet_returns, planet_search
from lit_dcem.models.observation_scale import ObservationScale
from lit_dcem.models.world_model import WorldModel
from lit_dcem.planning.latent_planner import LatentPlanner
from lit_dcem.planning.model_planner import ModelPlanner
from lit_dcem.runs import load_module, load_rollouts

Item = TypeVar("Item")


@runtime_checkable
class Controller(Protocol):
    """A module that plans in a world model, whichever phase it is."""

    world_model: WorldModel
    planner: ModelPlanner
    scale: ObservationScale


def graphical_model(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 3."""
    return planet_model.graphical_model()


def returns(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 4."""
    return planet_returns.box_plots(planet_returns.pooled(paths))


def learning_curves(number: str, paths: Sequence[Path]) -> Figure:
    """Figures 11 and 12."""
    return planet_curves.learning_curves(_by_name(paths, lambda path: planet_curves.read_run(path, number)))


def ppo_curves(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 13."""
    return planet_curves.ppo_curves(_by_name(paths, planet_curves.read_ppo_run))


def search_iterations(number: str, paths: Sequence[Path]) -> Figure:
    """Figures 14 and 15, of a single checkpoint."""
    (path,) = paths
    module = load_module(path)
    if not isinstance(module, Controller) or not isinstance(module.planner, LatentPlanner):
        rule = f"Figure {number} needs a checkpoint of PlanetPhase2 or PlanetPhase3"
        raise UsageError(f"{rule}, got {type(module).__name__} in {path}.")
    data = load_rollouts(path)
    envs = data.make_envs(1, seed=0)
    figure = planet_search.search_iterations(module.world_model, module.planner, module.scale, envs)
    figure.suptitle(data.env)
    return figure


def _by_name(paths: Sequence[Path], read: Callable[[Path], Item]) -> dict[str, list[Item]]:
    """What was read from the runs of each name."""
    runs: dict[str, list[Item]] = {}
    for path in paths:
        runs.setdefault(planet_curves.name_of(path), []).append(read(path))
    return runs
