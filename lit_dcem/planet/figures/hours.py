"""Figure hours: what PlaNet's phases get for the time that they train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import EnvironmentData
from lit_dcem.planet.phases.planet import Planet
from lit_dcem.planet.planning.search_name import search_of
from lit_dcem.training.checkpoint import Checkpoint, find_checkpoint
from lit_dcem.training.figure_source import figure
from lit_dcem.training.progress import track

PHASES = {"PlanetPhase1": "phase 1", "PlanetPhase2": "phase 2", "PlanetPhase3": "phase 3", "PlanetJoint": "joint"}
"""what the phase of a checkpoint is called"""
SECONDS_PER_HOUR = 3600


class Trained(NamedTuple):
    """The validations of a run."""

    task: str
    controller: str
    """its phase, and the search that it acts with"""
    hours: list[float]
    """trained so far, validation included"""
    returns: list[float]


@figure("hours", find=find_checkpoint, shipped=["*_phase*.ckpt", "cheetah_dcem_*.ckpt", "walker_dcem_*.ckpt"])
def returns_of_checkpoints(number: str, paths: Sequence[Path]) -> Figure:
    """Figure hours, from runs or checkpoints of PlaNet: the validations that a checkpoint keeps."""
    return returns_by_hours([read_trained(path) for path in track(paths, f"figure {number}")])


def read_trained(path: Path) -> Trained:
    """The validations until a checkpoint was written, and what they are of.

    Raises:
        UsageError: a checkpoint of something else, or one without validations.
    """
    checkpoint = Checkpoint.read(path)
    phase = checkpoint.nearest(PHASES)
    if phase is None:
        needed = "Figure hours needs runs of PlaNet's phases"
        raise UsageError(f"{needed}, got {checkpoint.module_class.__name__} in {path}.")
    rows = [row for row in checkpoint.history if {"seconds", "val/return"} <= row.keys()]
    if not rows:
        raise UsageError(f"Figure hours needs runs with validations, got none in {path}.")
    module = checkpoint.module()
    assert isinstance(module, Planet)
    hours = [row["seconds"] / SECONDS_PER_HOUR for row in rows]
    controller = f"{PHASES[phase]}, {search_of(module.planner)}"
    return Trained(checkpoint.data(EnvironmentData).env, controller, hours, [row["val/return"] for row in rows])


def returns_by_hours(runs: Sequence[Trained]) -> Figure:
    """Validation return against hours of training: a panel for each task, a line for each run.

    Hours are those of a phase alone: those of what it starts from come on top. On one thread they are core-hours, and
    more than that if other work shares the core.
    """
    tasks = sorted({run.task for run in runs})
    shown = sorted({run.controller for run in runs})
    figure = Figure(figsize=(1 + 4.5 * len(tasks), 3.6), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, task in zip(panels, tasks, strict=True):
        ours = [run for run in runs if run.task == task]
        _draw(axis, {name: [run for run in ours if run.controller == name] for name in shown}, shown)
        axis.set(title=task, xlabel="hours of training in this phase", xlim=(0, None))
        axis.legend(fontsize="small")
    panels[0].set_ylabel("validation return")
    return figure


def _draw(axis: Axes, runs: Mapping[str, Iterable[Trained]], shown: Sequence[str]) -> None:
    """The seeds of a controller have its colour; the first of them names it."""
    for controller, seeds in runs.items():
        for index, run in enumerate(seeds):
            label = None if index else controller
            axis.plot(run.hours, run.returns, color=f"C{shown.index(controller)}", marker=".", label=label)
