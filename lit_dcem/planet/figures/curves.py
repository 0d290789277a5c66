"""Figures 11, 12 and 13: learning curves of PlaNet's three phases, from what its runs have logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lit_dcem.planet.figures.logged import PANELS, Curve, Run, logs_of, name_of, read_ppo_run, read_run
from lit_dcem.training.figure_source import figure
from lit_dcem.training.progress import track

Item = TypeVar("Item")
COLOURS = {"training": "tab:blue", "evaluation": "tab:red"}
WINDOW = 0.02
"""share of a run that a point of a training curve is averaged over"""
MAX_POINTS = 500
"""of a drawn line"""


@figure("11", find=logs_of, shipped=["*_phase1_*.csv"])
@figure("12", find=logs_of, shipped=["*_phase2_*.csv"])
def learning_curves_of_runs(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 11 or 12, from run folders of `PlanetPhase1` or `PlanetPhase2`, or their CSV or TensorBoard files."""
    return learning_curves(_by_name(number, paths, partial(read_run, number=number)))


@figure("13", find=logs_of, shipped=["*_phase3_*.csv"])
def ppo_curves_of_runs(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 13, from run folders of `PlanetPhase3`, or their CSV or TensorBoard files."""
    return ppo_curves(_by_name(number, paths, read_ppo_run))


def _by_name(number: str, paths: Sequence[Path], read: Callable[[Path], Item]) -> dict[str, list[Item]]:
    """What was read from the runs of each name."""
    runs: dict[str, list[Item]] = {}
    for path in track(paths, f"figure {number}"):
        runs.setdefault(name_of(path), []).append(read(path))
    return runs


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
                curves = [seed[tag] for seed in seeds if tag in seed]
                _draw(axis, curves if stage == "evaluation" else [_smoothed(curve) for curve in curves], stage)
            axis.set_yscale("log" if title.endswith("loss") else "linear")
        row[0].set_ylabel(_label(name, seeds))
    for axis, title in zip(grid[0], PANELS, strict=True):
        axis.set_title(title)
    for axis in grid[-1]:
        axis.set_xlabel("1000 simulator steps")
    named = {line.get_label(): line for axis in grid[:, 0] for line in axis.lines}
    grid[0, 0].legend(handles=list(named.values()), fontsize="small")
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
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("evaluation return")
    return figure


def _label(name: str, seeds: Sequence[object]) -> str:
    return name if len(seeds) == 1 else f"{name}\n{len(seeds)} seeds"


def _draw(axis: Axes, seeds: Sequence[Curve], stage: str) -> None:
    """Between its points, a seed's curve is a line; a point that is alone is marked."""
    if not seeds:
        return
    steps = np.unique(np.concatenate([at for at, _ in seeds]))
    if len(steps) > MAX_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, MAX_POINTS).round().astype(int)]
    values = np.stack([np.interp(steps, *curve, left=np.nan, right=np.nan) for curve in seeds])
    marker = "." if stage == "evaluation" or len(steps) == 1 else ""
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
