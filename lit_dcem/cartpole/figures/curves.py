"""Figures 8 and 9: learning curves and improvement factors of the cartpole's embeddings, from the tables of a sweep."""

from __future__ import annotations

import csv
import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from lit_dcem.cartpole.module import EXPERT_COST
from lit_dcem.errors import UsageError, require
from lit_dcem.training.figure_source import figure, table_of
from lit_dcem.training.statistics import mean_and_interval

Row = Mapping[str, Any]
"""A row of a table, mostly of numbers; NaN where a cell is empty and may be."""

CURVE_COLUMNS = ("latent_dim", "temperature", "seed_everything", "step", "train/loss", "val/cost")
"""train/loss may be empty: a curve may start with a validation"""
RESULT_COLUMNS = ("latent_dim", "temperature", "val/improvement")
PAPER: dict[tuple[float, float], float] = {
    (2, 1.0): 1.08, (2, 0.1): 1.04, (2, 0.0): 1.08,
    (8, 1.0): 1.18, (8, 0.1): 0.80, (8, 0.0): 0.89,
    (16, 1.0): 1.09, (16, 0.1): 0.82, (16, 0.0): 0.65,
}  # fmt: skip
"""improvement factors of the paper's figure 9, by latent size and temperature"""
PAPER_PCA = 1.07
"""that of two principal components of an expert's solutions"""


def read_table(path: Path, columns: Sequence[str], texts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The numbers of some columns of a CSV file, in the rows that have them, of runs that did not fail.

    Args:
        path: of the file.
        columns: of numbers.
        texts: columns that are taken as they are.

    Raises:
        UsageError: no such file, a column that is missing, or a cell that holds no number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            missing = [name for name in (*columns, *texts) if name not in (table.fieldnames or ())]
            if missing:
                rule = f"{path} must have the columns {', '.join((*columns, *texts))}"
                raise UsageError(f"{rule}, got none called {missing[0]}.")
            finished = [row for row in table if row.get("status") != "failed"]
            rows = [{**row, **{name: _number(row[name], name, path) for name in columns}} for row in finished]
            whole = [row for row in rows if all(math.isfinite(row[name]) for name in columns if name != "train/loss")]
            return [{name: row[name] for name in (*columns, *texts)} for row in whole]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"A table must be a readable CSV file, got {path} ({type(error).__name__}).") from error


def _number(cell: str | None, column: str, path: Path) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        raise UsageError(f"{column} must be a number in every row of {path}, got {cell}.") from None


def rows_of(number: str, paths: Sequence[Path], read: Callable[[Path], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of all tables of a figure.

    Raises:
        UsageError: there are none.
    """
    rows = [row for path in paths for row in read(path)]
    require(bool(rows), f"Figure {number} needs validated runs", f"none in {', '.join(map(str, paths))}")
    return rows


@figure("8", find=table_of("curves.csv"), shipped=["sweep_cartpole_curves.csv"])
def learning_curves_of_tables(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 8, from the validations of sweeps: their folders or CSV files."""
    return learning_curves(rows_of(number, paths, partial(read_table, columns=CURVE_COLUMNS)))


@figure("9", find=table_of("results.csv"), shipped=["sweep_cartpole.csv"])
def improvement_factors_of_tables(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 9, from the results of sweeps: their folders or CSV files."""
    return improvement_factors(rows_of(number, paths, partial(read_table, columns=RESULT_COLUMNS)))


def learning_curves(curves: Sequence[Row]) -> Figure:
    """Figure 8: cost against updates by latent size (columns) and temperature: mean over seeds and 95% interval.

    The training cost (top row) is averaged over updates within 10% of each; the validation cost (bottom row) is not.

    Args:
        curves: rows of a sweep's validations, with `CURVE_COLUMNS`.
    """
    sizes, shades = sorted({row["latent_dim"] for row in curves}), colours(curves)
    figure = Figure(figsize=(1 + 3.2 * len(sizes), 5.5), layout="constrained")
    axes = figure.subplots(2, len(sizes), squeeze=False, sharex=True, sharey="row")  # training costs spread further
    for column, size in zip(axes.T, sizes, strict=True):
        for temperature, colour in shades.items():
            rows = [row for row in curves if row["latent_dim"] == size and row["temperature"] == temperature]
            seeds = [group for _, group in grouped(rows, "seed_everything")]
            label = f"temperature {temperature:g}"
            _draw_curve(column[0], [_smoothed(_curve(seed, "train/loss")) for seed in seeds], colour, label)
            _draw_curve(column[1], [_curve(seed, "val/cost") for seed in seeds], colour, label)
        column[0].set_title(f"d = {size:g}")
        column[1].set(xlabel="updates", xscale="log")
        column[1].xaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator()
        )
    for axis, name in zip(axes[:, 0], ("training", "validation"), strict=True):
        axis.set_ylabel(f"{name} cost")
    for axis in axes.flat:
        axis.axhline(EXPERT_COST, color="black", linewidth=0.8, linestyle="dashed", label="expert of the paper")
    axes[0, 0].legend(fontsize="small")
    return figure


Curve = Mapping[float, float]
"""Cost by step."""


def _draw_curve(axis: Axes, seeds: Sequence[Curve], colour: str, label: str) -> None:
    """Mean over the seeds that got to each step, and its interval; between its steps, a seed's curve is a line."""
    steps = sorted({step for seed in seeds for step in seed})
    if not steps:
        return
    reached = [[seed for seed in seeds if seed and min(seed) <= step <= max(seed)] for step in steps]
    values = [
        [float(np.interp(step, *_line(seed))) for seed in there] for step, there in zip(steps, reached, strict=True)
    ]
    spread = [mean_and_interval(each) for each in values]
    low, high = [mean - reach for mean, reach in spread], [mean + reach for mean, reach in spread]
    axis.plot(steps, [mean for mean, _ in spread], color=colour, label=label, linewidth=1.2)
    axis.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)


def _line(curve: Curve) -> tuple[list[float], list[float]]:
    """Its steps in order, and the costs there."""
    steps = sorted(curve)
    return steps, [curve[step] for step in steps]


def _curve(rows: Iterable[Row], column: str) -> Curve:
    return {row["step"]: row[column] for row in rows if row["step"] > 0 and math.isfinite(row[column])}


def _smoothed(curve: Curve, width: float = 1.1) -> Curve:
    """Mean over the steps within a factor: a window of one width on a logarithmic axis."""
    steps = sorted(curve)
    windows = {at: steps[bisect_left(steps, at / width) : bisect_right(steps, at * width)] for at in steps}
    return {at: statistics.fmean(curve[step] for step in window) for at, window in windows.items()}


def improvement_factors(results: Sequence[Row]) -> Figure:
    """Figure 9: the best validation cost over the expert's: seeds as points, their mean and its 95% interval.

    Args:
        results: rows of a sweep, one a run, with `RESULT_COLUMNS`.
    """
    sizes, shades = sorted({row["latent_dim"] for row in results}), colours(results)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.axhline(1, color="black", linewidth=0.8, linestyle="dashed", label="expert of the paper")
    for (size, temperature), rows in grouped(results, "latent_dim", "temperature"):
        place = sizes.index(size) + _offset(list(shades).index(temperature), len(shades))
        _draw_factor(axis, place, [row["val/improvement"] for row in rows], shades[temperature])
        if (size, temperature) in PAPER:
            axis.plot(place - 0.06, PAPER[size, temperature], "kx", markersize=5)
    if 2 in sizes:
        axis.plot(sizes.index(2) - 0.42, PAPER_PCA, "k+", markersize=7)
    axis.set(xticks=range(len(sizes)), xticklabels=[f"d = {size:g}" for size in sizes], ylabel="improvement factor")
    axis.set_xlim(-0.55, len(sizes) - 0.45)
    _legend(axis, shades)
    return figure


def _draw_factor(axis: Axes, place: float, seeds: Sequence[float], colour: str) -> None:
    mean, reach = mean_and_interval(seeds)
    axis.errorbar(place, mean, None if math.isnan(reach) else reach, color=colour, marker="o", markersize=7, capsize=4)
    axis.plot([place + 0.06] * len(seeds), seeds, ".", color=colour, alpha=0.6, markersize=5)


def _legend(axis: Axes, shades: Mapping[float, str]) -> None:
    """Next to the panel, whose marks are spread all over."""
    for temperature, colour in shades.items():
        axis.plot([], [], color=colour, marker="o", label=f"temperature {temperature:g}")
    axis.plot([], [], "k.", label="a seed", alpha=0.6)
    axis.plot([], [], "kx", markersize=5, label="paper")
    axis.plot([], [], "k+", markersize=7, label="paper, PCA")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")


def _offset(index: int, count: int) -> float:
    """Where the marks of a temperature are, from the middle of their latent size."""
    return 0.25 * (index - (count - 1) / 2)


def colours(rows: Iterable[Row]) -> dict[float, str]:
    """A colour for each temperature, from high to low."""
    temperatures = sorted({row["temperature"] for row in rows}, reverse=True)
    return {temperature: f"C{index}" for index, temperature in enumerate(temperatures)}


def grouped(rows: Iterable[Row], *columns: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """The rows that agree in some columns, and the values they agree in."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in columns), []).append(row)
    return list(groups.items())
