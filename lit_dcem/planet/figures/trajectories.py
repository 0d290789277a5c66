"""Figure trajectories: what controllers of PlaNet get with smaller and larger searches."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lit_dcem.errors import UsageError
from lit_dcem.planet.figures.returns import read_reports
from lit_dcem.training.figure_source import figure
from lit_dcem.training.statistics import bootstrap_interval, mean_and_interval

APART = 0.02
"""distance between the marks of two searches, as a share of a decade"""
AFTER = {"PlanetPhase3": ", after PPO"}
"""what the name of a latent search says of the phase it is from"""
MODELS = {"PlanetPhase2": ", model of phase 2", "PlanetPhase3": ", model of phase 3"}
"""what the name of a search over actions says of the model it searches, where that is not phase 1's"""


class Measured(NamedTuple):
    """The episodes of one checkpoint with one search."""

    task: str
    search: str
    trajectories: int
    """of a decision"""
    checkpoint: str
    returns: list[float]


@figure("trajectories", find=Path, shipped=["trajectories/*.json", "swingup_phase*_returns.json"])
def returns_of_reports(number: str, paths: Sequence[Path]) -> Figure:
    """Figure trajectories, from the JSON files that ``lit-dcem evaluate --out`` writes for checkpoints of PlaNet."""
    return returns_by_trajectories([each for path in paths for each in read_searches(path)])


def read_searches(path: Path) -> list[Measured]:
    """The evaluations in a file of ``lit-dcem evaluate --out``, each with its search.

    Raises:
        UsageError: another file.
    """
    content = read_reports(path, "trajectories")
    return [_measured(name, report, content, path) for name, report in content["results"].items()]


def _measured(module: str, report: Mapping[str, Any], content: Mapping[str, Any], path: Path) -> Measured:
    search, count = report["search"], report.get("trajectories_a_decision")
    if type(count) is not int or count < 1:
        rule = "Figure trajectories needs reports that count the trajectories of a decision"
        raise UsageError(f"{rule}, got others for {module} in {path}.")
    options = content.get("options")
    typed = options.get("checkpoint") if isinstance(options, dict) else ""
    checkpoint = str(content.get("checkpoint_file") or typed)  # the same one may be typed in several ways
    said = (MODELS if search.endswith("over actions") else AFTER).get(module, "")
    return Measured(report["environment"], search + said, count, checkpoint, report["returns"])


def returns_by_trajectories(measured: Sequence[Measured]) -> Figure:
    """Mean return against trajectories a decision: a panel for each task, a line for each search.

    With several checkpoints, that is seeds, a mark is the mean of their means, its interval is over seeds (95%,
    Student's t), and seeds are points. With one, the interval is over its episodes (95%, bootstrap).
    """
    tasks = sorted({each.task for each in measured})
    shown = sorted({each.search for each in measured})
    figure = Figure(figsize=(1 + 4.5 * len(tasks), 3.6), layout="constrained")
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        ours = [each for each in measured if each.task == task]
        for place, search in enumerate(shown):
            apart = 10 ** (APART * (place - (len(shown) - 1) / 2))  # so that intervals do not cover each other
            _draw(axis, [each for each in ours if each.search == search], search, f"C{place}", apart)
        ticks = FixedLocator(sorted({each.trajectories for each in ours}))
        axis.set(title=task, xscale="log", xlabel="trajectories a decision", ylabel="mean return")
        axis.xaxis.set(major_locator=ticks, major_formatter="{x:g}", minor_locator=NullLocator())
        axis.legend(fontsize="small")
    return figure


def _draw(axis: Axes, ours: Sequence[Measured], search: str, colour: str, apart: float) -> None:
    if not ours:
        return
    seeds: dict[int, dict[str, list[float]]] = {}
    for each in sorted(ours, key=lambda each: each.trajectories):
        seeds.setdefault(each.trajectories, {}).setdefault(each.checkpoint, []).extend(each.returns)
    at = [count * apart for count in seeds]
    marks = [_mark(list(of.values())) for of in seeds.values()]
    means, below, above = zip(*marks, strict=True)
    label = f"{search} ({_seeds([len(of) for of in seeds.values()])})"
    axis.errorbar(at, means, [below, above], color=colour, marker="o", markersize=4, capsize=2, label=label)
    for place, of in zip(at, seeds.values(), strict=True):
        points = [statistics.fmean(returns) for returns in of.values()]
        axis.plot([place] * len(points), points, ".", color=colour, alpha=0.4, markersize=4)


def _mark(seeds: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """A mean, and how far its interval reaches below and above it."""
    if len(seeds) == 1:
        returns = torch.tensor(seeds[0], dtype=torch.float64)
        mean = returns.mean().item()
        low, high = bootstrap_interval(returns) or (mean, mean)
        return mean, mean - low, high - mean
    mean, reach = mean_and_interval([statistics.fmean(returns) for returns in seeds])
    return mean, reach, reach


def _seeds(counts: Sequence[int]) -> str:
    """Of how many the marks are."""
    least, most = min(counts), max(counts)
    if most == 1:
        return "1 seed"
    return f"{most} seeds" if least == most else f"{least} to {most} seeds"
