"""Figures of PlaNet from its files: events, returns and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from matplotlib.figure import Figure

from lit_dcem.errors import UsageError
from lit_dcem.planet.data.loading import load_rollouts
from lit_dcem.planet.figures import (
    curves as planet_curves,
)
from lit_dcem.planet.figures import (
    model as planet_model,
)
from lit_dcem.planet.figures import (
    returns as planet_returns,
)
from lit_dcem.planet.figures import (
    search as planet_search,
)
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.training.runs import load_module

Item = TypeVar("Item")


@runtime_checkable
class Controller(Protocol):
    """A module that plans in a world model, whichever phase it is."""

    world_model: WorldModel
    planner: ModelPlanner


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
    figure = planet_search.search_iterations(module.world_model, module.planner, envs)
    figure.suptitle(data.env)
    return figure


def _by_name(paths: Sequence[Path], read: Callable[[Path], Item]) -> dict[str, list[Item]]:
    """What was read from the runs of each name."""
    runs: dict[str, list[Item]] = {}
    for path in paths:
        runs.setdefault(planet_curves.name_of(path), []).append(read(path))
    return runs
