"""Figure 4: what the controllers of PlaNet get in evaluation episodes, from JSON files of ``lit-dcem evaluate``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lit_dcem.errors import UsageError
from lit_dcem.training.figure_source import figure
from lit_dcem.training.statistics import interquartile_mean_and_interval

Seeds = Sequence[Sequence[float]]
"""returns of the episodes of each seed"""
Tasks = Mapping[str, Mapping[str, Seeds]]
"""by task and controller"""

PHASES = {"PlanetPhase1": "full CEM", "PlanetPhase2": "{}", "PlanetPhase3": "{} + PPO"}
"""what plans in a checkpoint of each module, with the name of its latent search"""
LATENT = {"CEM in a latent space": "latent CEM", "DCEM in a latent space": "DCEM"}
"""names of latent searches"""
CONTROLLERS = "full CEM", "latent CEM", "DCEM", "latent CEM + PPO", "DCEM + PPO"
"""in the paper's order; a search at temperature 0 is not DCEM"""
PAPER = {
    "cheetah-run": {"full CEM": 700, "DCEM": 652, "DCEM + PPO": 685},
    "walker-walk": {"full CEM": 955, "DCEM": 862, "DCEM + PPO": 893},
}
"""medians of the paper's figure 4"""
CROSS = {"color": "tab:red", "marker": "x", "markersize": 6, "linestyle": "none"}
DIAMOND = {"color": "black", "marker": "D", "markersize": 4, "linestyle": "none"}
ASIDE = 0.36
"""of a cross from the middle of its box; a diamond is as far on the other side"""


class Returns(NamedTuple):
    """One evaluation: of which controller in which task, and what it got."""

    task: str
    controller: str
    returns: list[float]


@figure("4", find=Path, shipped=["*_phase*_returns.json", "*_dcem_returns.json"])
def box_plots_of_reports(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 4, from the JSON files that ``lit-dcem evaluate --out`` writes for checkpoints of PlaNet."""
    return box_plots(by_controller(paths))


def by_controller(paths: Sequence[Path]) -> Tasks:
    """The returns of all files; those of one task and controller are its seeds.

    Raises:
        UsageError: a file that `read_returns` cannot use.
    """
    tasks: dict[str, dict[str, list[Sequence[float]]]] = {}
    for path in paths:
        for task, controller, returns in read_returns(path):
            tasks.setdefault(task, {}).setdefault(controller, []).append(returns)
    return tasks


def read_returns(path: Path) -> list[Returns]:
    """The evaluations in a file that ``lit-dcem evaluate --out`` wrote for checkpoints of PlaNet.

    Raises:
        UsageError: another file, or a planner that is not the controller of its checkpoint's phase.
    """
    content = read_reports(path, "4")
    if changed := content.get("changed"):
        raise UsageError(f"Figure 4 shows controllers as their checkpoints have them, got {changed} in {path}.")
    return [_evaluation(name, report, path) for name, report in content["results"].items()]


def read_reports(path: Path, number: str) -> dict[str, Any]:
    """A file of ``lit-dcem evaluate --out`` whose results say what was searched, in which task, and all returns.

    Raises:
        UsageError: another file.
    """
    rule = f"Figure {number} needs JSON files of lit-dcem evaluate --out"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{rule}, got {path} ({type(error).__name__}).") from error
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not results:
        raise UsageError(f"{rule}, got {path} without results.")
    for name, report in results.items():
        _check_name(name, number, path)
        _check_report(name, report, path)
    return content


def _check_name(name: str, number: str, path: Path) -> None:
    if name not in PHASES:
        raise UsageError(f"Figure {number} needs returns of {', '.join(PHASES)}, got those of {name} in {path}.")


def _check_report(name: str, report: Any, path: Path) -> None:
    report = report if isinstance(report, dict) else {}
    told, returns = [report.get(each) for each in ("environment", "search")], report.get("returns")
    numbers = isinstance(returns, list) and all(type(each) in (int, float) and math.isfinite(each) for each in returns)
    if not all(isinstance(each, str) for each in told) or not numbers or not returns:
        rule = f"Results in {path} must name their environment and search, and have finite returns"
        raise UsageError(f"{rule}, got others for {name}.")


def _evaluation(module: str, report: Mapping[str, Any], path: Path) -> Returns:
    search = report["search"]
    known = {"CEM over actions": ""} if module == "PlanetPhase1" else LATENT
    if search not in known:
        raise UsageError(f"Figure 4 shows {module} with {' or '.join(known)}, got {search} in {path}.")
    controller = PHASES[module].format(known[search])
    return Returns(report["environment"], controller, report["returns"])


def box_plots(tasks: Tasks) -> Figure:
    """A panel for each task, a box for each controller, and the paper's medians as crosses next to them.

    A box holds the episodes of all seeds. Boxes reach from the first to the third quartile, whiskers to the last return
    within 1.5 times that; others are points. Diamonds are interquartile means with 95% intervals, over seeds and their
    episodes. A controller that some task has no returns of keeps its place there.
    """
    shown = [name for name in CONTROLLERS if any(name in boxes for boxes in tasks.values())]
    width = 0.6 + max(1.2 * len(shown), 2.4) * len(tasks)
    figure = Figure(figsize=(width, 4), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, (task, boxes) in zip(panels, sorted(tasks.items()), strict=True):
        _draw(axis, boxes, PAPER.get(task, {}), shown)
        axis.set_title(task)
    panels[0].set_ylabel("episode return")
    marks = [Line2D([], [], **DIAMOND, label="interquartile mean, 95% interval")]
    if tasks.keys() & PAPER.keys():
        marks.append(Line2D([], [], **CROSS, label="median of the paper"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return figure


def _draw(axis: Axes, boxes: Mapping[str, Seeds], paper: Mapping[str, float], shown: Sequence[str]) -> None:
    """One panel; controller i of those shown stands at i."""
    places = {name: place for place, name in enumerate(shown)}
    all_of = [[each for seed in seeds for each in seed] for seeds in boxes.values()]
    points, median = {"marker": ".", "markersize": 4, "markerfacecolor": "black"}, {"color": "tab:blue"}
    at = [places[name] for name in boxes]
    axis.boxplot(all_of, positions=at, widths=0.5, flierprops=points, medianprops=median)
    for place, seeds in zip(at, boxes.values(), strict=True):
        mean, interval = interquartile_mean_and_interval(seeds)
        axis.plot([place - ASIDE], [mean], **DIAMOND)
        axis.vlines(place - ASIDE, *interval, color=DIAMOND["color"])
    known = [name for name in shown if name in paper]
    axis.plot([places[name] + ASIDE for name in known], [paper[name] for name in known], **CROSS)
    counts = {name: _counted(boxes.get(name, [])) for name in shown}
    axis.set_xticks(list(places.values()), [f"{name}\n{counts[name]}" for name in shown], fontsize="small")
    axis.set_xlim(-0.6, len(shown) - 0.4)


def _counted(seeds: Seeds) -> str:
    """How many episodes, and of how many seeds."""
    episodes = f"{sum(map(len, seeds))} episodes" if seeds else ""
    return f"{episodes}\n{len(seeds)} seeds" if len(seeds) > 1 else episodes
