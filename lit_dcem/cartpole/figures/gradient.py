"""Figure gradient: when gradients through the search pay on the cartpole, from the table of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lit_dcem.cartpole.figures.curves import colours, grouped, read_table, rows_of
from lit_dcem.errors import UsageError
from lit_dcem.training.figure_source import figure, table_of
from lit_dcem.training.statistics import mean_and_interval

Row = Mapping[str, Any]
SEARCHES = {"val/cost_trained": "searched as trained", "val/cost_hard": "searched at temperature 0"}
"""metrics of a decoder, one row of panels each, and their titles"""
COLUMNS = ("condition_dim", "num_candidates", "num_iterations", "temperature", *SEARCHES)
LOSS = "loss"
APART = 0.03
"""distance between the marks of two temperatures, as a share of a decade"""
ROOM = 1.4
"""factor by which the axis extends beyond the first and last marks"""


def read_study(path: Path) -> list[dict[str, Any]]:
    """The runs of ``sweep_cartpole_gradient.yaml`` in a table of results, each with the parts of its loss.

    Raises:
        UsageError: a column that is missing, or a cell that holds something else.
    """
    rows = read_table(path, COLUMNS, [LOSS])
    return [{**row, LOSS: _parts(row[LOSS], path)} for row in rows]


def _parts(cell: str, path: Path) -> str:
    try:
        weights = yaml.safe_load(cell)
        parts = [name for name, weight in weights.items() if weight > 0]
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise UsageError(f"{LOSS} must map its parts to weights in every row of {path}, got {cell}.") from error
    return ", ".join(parts)


@figure("gradient", find=table_of("results.csv"), shipped=["sweep_cartpole_gradient.csv"])
def search_costs_of_tables(number: str, paths: Sequence[Path]) -> Figure:
    """Figure gradient, from the results of sweeps: their folders or CSV files."""
    return search_costs(rows_of(number, paths, read_study))


def search_costs(runs: Sequence[Row]) -> Figure:
    """Cost of plans against the trajectories of a search: a line for each temperature, mean and 95% over seeds.

    Columns are decoders and losses, rows the temperature that a decoder is searched at. Seeds are points.

    Args:
        runs: with `COLUMNS`, and the parts of their losses.
    """
    studies = sorted(grouped(runs, "condition_dim", LOSS), key=lambda study: str(study[0]))
    counts, shades = sorted(map(_trajectories, runs)), colours(runs)
    figure = Figure(figsize=(1.2 + 3 * len(studies), 6), layout="constrained")
    panels = figure.subplots(len(SEARCHES), len(studies), squeeze=False, sharex=True, sharey="row")
    for column, ((condition, loss), rows) in zip(panels.T, studies, strict=True):
        for axis, measure in zip(column, SEARCHES, strict=True):
            _draw(axis, rows, measure, shades)
        column[0].set_title(f"decoder of z{' and the state' if condition else ''}\nloss: {loss}", fontsize="medium")
        column[-1].set_xlabel("trajectories of a search")
        ticks = FixedLocator(sorted(set(counts)))
        column[-1].xaxis.set(major_locator=ticks, major_formatter="{x:g}", minor_locator=NullLocator())
        column[-1].set_xlim(counts[0] / ROOM, counts[-1] * ROOM)
    for axis, title in zip(panels[:, 0], SEARCHES.values(), strict=True):
        axis.set_ylabel(f"cost, {title}")
    panels[0, 0].legend(fontsize="small")
    return figure


def _draw(axis: Axes, rows: Iterable[Row], measure: str, shades: Mapping[float, str]) -> None:
    axis.set_xscale("log")
    for (temperature,), ours in grouped(sorted(rows, key=_trajectories), "temperature"):
        # Marks are shifted a little, so that their intervals do not overlap.
        apart = 10 ** (APART * (list(shades).index(temperature) - (len(shades) - 1) / 2))
        marks: dict[float, list[float]] = {}
        for row in ours:
            marks.setdefault(_trajectories(row) * apart, []).append(row[measure])
        means, reaches = zip(*map(mean_and_interval, marks.values()), strict=True)
        colour, label = shades[temperature], f"temperature {temperature:g}"
        reaches = np.nan_to_num(reaches)
        axis.errorbar(list(marks), means, reaches, color=colour, marker="o", markersize=4, capsize=2, label=label)
        seeds = [(at, cost) for at, costs in marks.items() for cost in costs]
        axis.plot(*zip(*seeds, strict=True), ".", color=colour, alpha=0.4, markersize=3)


def _trajectories(row: Row) -> float:
    return row["num_candidates"] * row["num_iterations"]
