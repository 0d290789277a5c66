"""Figures 11, 12 and 13: learning curves of PlaNet's three phases, from the TensorBoard events of its runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator, ScalarEvent

from lit_dcem.errors import UsageError
from lit_dcem.training.figure_source import figure
from lit_dcem.training.progress import track

Item = TypeVar("Item")
Curve = tuple[ndarray, ndarray]
"""thousands of simulator steps, or PPO steps, in order, and values there: both ``[N]``"""
Run = Mapping[str, Curve]
"""a curve for each tag of `PANELS`"""

PANELS = {
    "episode return": {"train/return": "training", "val/return": "evaluation"},
    "observation loss": {"train/observation": "training"},
    "reward loss": {"train/reward": "training"},
    "KL": {"train/kl": "training"},
}
"""titles of the panels: what they show, by tag"""
COUNT, EVALUATED = "train/simulator_steps", "val/simulator_steps"
RETURNS = ("train/return", "val/return")
COLOURS = {"training": "tab:blue", "evaluation": "tab:red"}
WINDOW = 0.02
"""share of a run that a point of a training curve is averaged over"""
MAX_POINTS = 500
"""of a drawn line"""


def events_of(run: str | Path) -> Path:
    """The events that stand for a run: an event file itself, or a folder with ``events.out.tfevents.*`` files.

    Raises:
        UsageError: there are none.
    """
    run = Path(run)
    if any(run.glob("events.out.tfevents.*")) or (run.is_file() and "tfevents" in run.name):
        return run
    raise UsageError(f"A run must be a *.tfevents file or a folder with events.out.tfevents.* files, got {run}.")


@figure("11", find=events_of, shipped=["*_phase1_*.tfevents"])
@figure("12", find=events_of, shipped=["*_phase2_*.tfevents"])
def learning_curves_of_events(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 11 or 12, from run folders of `PlanetPhase1` or `PlanetPhase2`, or their TensorBoard event files."""
    return learning_curves(_by_name(number, paths, partial(read_run, number=number)))


@figure("13", find=events_of, shipped=["*_phase3_*.tfevents"])
def ppo_curves_of_events(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 13, from run folders of `PlanetPhase3`, or their TensorBoard event files."""
    return ppo_curves(_by_name(number, paths, read_ppo_run))


def _by_name(number: str, paths: Sequence[Path], read: Callable[[Path], Item]) -> dict[str, list[Item]]:
    """What was read from the runs of each name."""
    runs: dict[str, list[Item]] = {}
    for path in track(paths, f"figure {number}"):
        runs.setdefault(name_of(path), []).append(read(path))
    return runs


def name_of(path: Path) -> str:
    """What a run shares with its other seeds: ``a`` for ``a/version_0``, for a file in there, and for ``a_0.tfevents``.

    A folder that is no ``version_N`` goes by its own name.
    """
    path = path.resolve()
    if path.is_file() and not path.name.startswith("events.out."):
        return re.sub(r"_\d+$", "", path.name.partition(".tfevents")[0])
    folder = path.parent if path.is_file() else path
    return folder.parent.name if folder.name.startswith("version_") else folder.name


def read_run(path: Path, number: str = "11") -> Run:
    """The curves of a run of phase 1 or 2 against thousands of simulator steps, its training curves as logged.

    Those of a run that was resumed are put together.

    Args:
        path: of an event file, or of a folder of them.
        number: of the figure, for what is raised.

    Raises:
        UsageError: a tag without a finite value.
    """
    tags = [tag for panel in PANELS.values() for tag in panel]
    curves = _read(path, number, [COUNT, *tags])
    return {tag: (steps / 1000, values) for tag, (steps, values) in curves.items()}


def read_ppo_run(path: Path) -> Curve:
    """Evaluation return of a run of phase 3 against PPO steps; for the rest see `read_run`."""
    return _read(path, "13", ["val/ppo_steps", "val/return"])["val/return"]


def _read(path: Path, number: str, tags: Sequence[str]) -> dict[str, Curve]:
    """Curves of all tags but the first, against what the first one counts."""
    options = {"size_guidance": {SCALARS: 0}, "purge_orphaned_data": False}
    events = EventAccumulator(str(path), **options).Reload()
    logged = events.Tags()[SCALARS]
    curves = {tag: _merged(events.Scalars(tag) if tag in logged else []) for tag in tags}
    for tag, (updates, _) in curves.items():
        if not len(updates):
            raise UsageError(f"Figure {number} needs runs that logged {tag}, got none in {path}.")
    updates, counts = curves.pop(tags[0])
    counted = _counted(events) if tags[0] == COUNT else []
    return {
        tag: (at if tag in counted else np.interp(at, updates, counts), values) for tag, (at, values) in curves.items()
    }


def _counted(events: EventAccumulator) -> Sequence[str]:
    """The tags that were logged against simulator steps, which early runs did not do."""
    at, counts = _merged(events.Scalars(EVALUATED)) if EVALUATED in events.Tags()[SCALARS] else ([], [])
    return RETURNS if len(at) and np.array_equal(at, counts) else []


def _merged(points: Iterable[ScalarEvent]) -> Curve:
    """Updates and values of a run without those that it wrote again after it was resumed."""
    kept, least = [], math.inf
    for point in sorted(points, key=lambda point: (point.wall_time, point.step), reverse=True):
        if point.step < least:
            kept.append((point.step, point.value))
            least = point.step
    steps, values = np.array(kept[::-1], dtype=float).reshape(-1, 2).T
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def learning_curves(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """Figures 11 and 12: return and losses against simulator steps.

    Lines are means over the seeds that got there, from the least to the greatest is shaded. Training curves are
    averaged over 2% of a run; evaluations are not.

    Args:
        runs: the seeds of each row, by its name.
    """
    figure = Figure(figsize=(13, 0.7 + 2.6 * len(runs)), layout="constrained")
    grid = figure.subplots(len(runs), len(PANELS), squeeze=False, sharex="row")
    for row, (name, seeds) in zip(grid, runs.items(), strict=True):
        for axis, (title, tags) in zip(row, PANELS.items(), strict=True):
            for tag, stage in tags.items():
                curves = [seed[tag] for seed in seeds]
                _draw(axis, curves if stage == "evaluation" else [_smoothed(curve) for curve in curves], stage)
            axis.set_yscale("log" if title.endswith("loss") else "linear")
        row[0].set_ylabel(_label(name, seeds))
    for axis, title in zip(grid[0], PANELS, strict=True):
        axis.set_title(title)
    for axis in grid[-1]:
        axis.set_xlabel("1000 simulator steps")
    grid[0, 0].legend(fontsize="small")
    return figure


def ppo_curves(runs: Mapping[str, Sequence[Curve]]) -> Figure:
    """Figure 13: evaluation return against PPO steps, a panel for each name; seeds as in `learning_curves`.

    Args:
        runs: the seeds of each panel, by its name.
    """
    figure = Figure(figsize=(0.6 + 4 * len(runs), 3.2), layout="constrained")
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for axis, (name, seeds) in zip(panels, runs.items(), strict=True):
        _draw(axis, seeds, "evaluation")
        axis.set(title=_label(name, seeds), xlabel="PPO steps")
    panels[0].set_ylabel("evaluation return")
    return figure


def _label(name: str, seeds: Sequence[object]) -> str:
    return name if len(seeds) == 1 else f"{name}\n{len(seeds)} seeds"


def _draw(axis: Axes, seeds: Sequence[Curve], stage: str) -> None:
    """Between its points, a seed's curve is a line."""
    steps = np.unique(np.concatenate([at for at, _ in seeds]))
    if len(steps) > MAX_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, MAX_POINTS).round().astype(int)]
    values = np.stack([np.interp(steps, *curve, left=np.nan, right=np.nan) for curve in seeds])
    marker = "." if stage == "evaluation" else ""
    axis.plot(steps, np.nanmean(values, 0), color=COLOURS[stage], label=stage, linewidth=1.2, marker=marker)
    if len(seeds) > 1:
        low, high = np.nanmin(values, 0), np.nanmax(values, 0)
        axis.fill_between(steps, low, high, color=COLOURS[stage], alpha=0.2, linewidth=0)


def _smoothed(curve: Curve) -> Curve:
    """Mean over a window about each point, cut off at the ends of the run."""
    steps, values = curve
    reach = WINDOW / 2 * (steps[-1] - steps[0])
    first, end = np.searchsorted(steps, steps - reach, "left"), np.searchsorted(steps, steps + reach, "right")
    sums = np.concatenate([[0], np.cumsum(values)])
    return steps, (sums[end] - sums[first]) / (end - first)
