"""Tables and figure of the comparison on test functions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from report import plain_table
from rich.table import Table

from lit_dcem.files.replacing import open_replacing

Rows = list[dict[str, Any]]

CHECKPOINTS = sorted({round(10 ** (i / 10)) for i in range(10, 41)})
"""numbers of evaluations at which curves are recorded"""
SOLVED = 1e-8
"""values below it, the target of the BBOB test bed, count as it: they are all solutions"""
NEAR = 10.0
"""a solver is near the best if its value is at most this many times the best value"""
OURS = "lit-dcem "


def write_rows(path: Path, head: dict[str, Any], rows: Rows) -> None:
    """Write a report as JSON, each of its many rows in one line; an old file is replaced in one step."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    with open_replacing(path) as file:
        file.write(json.dumps(head, indent=1).removesuffix("\n}") + f',\n "rows": [\n{lines}\n]}}\n')


def short(values: Iterable[Any]) -> list[float]:
    """Four digits of each value."""
    return [float(f"{value:.4g}") for value in values]


def markdown(rows: Rows) -> str:
    """Write the summary, and the median values with the largest budget."""
    lines = [_line(["solver", *(f"{budget:,} evaluations" for budget in _budgets(rows))])]
    lines.append(_line(["---"] * (1 + len(_budgets(rows)))))
    lines += [_line([solver, *shares]) for solver, shares in _shares(rows)]
    budget = _budgets(rows)[-1]
    solvers = _solvers(rows)
    lines += ["", _line(["function", "D", *solvers]), _line(["---"] * (2 + len(solvers)))]
    for (name, dim), values in _problems(rows, budget).items():
        least = min(values.values())
        cells = ((_short(values[each]), values[each] == least) for each in solvers if each in values)
        lines.append(_line([name, str(dim), *(f"**{text}**" if is_best else text for text, is_best in cells)]))
    return "\n".join(lines) + "\n"


def summary_table(rows: Rows) -> Table:
    """Make the table of how often each solver is near the best."""
    budgets = [f"{budget:,} evaluations" for budget in _budgets(rows)]
    table = plain_table(f"Problems on which a solver is within {NEAR:g} times of the best", "solver", *budgets)
    for solver, shares in _shares(rows):
        table.add_row(solver, *shares)
    return table


def draw(rows: Rows, path: Path) -> None:
    """Draw the best value against evaluations for every function, in the largest dimension up to 20."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    dim = max((row["dim"] for row in rows if row["dim"] <= 20), default=rows[0]["dim"])
    shown = [row for row in rows if row["dim"] == dim and row["budget"] == _budgets(rows)[-1]]
    names = list(dict.fromkeys(row["function"] for row in shown))
    figure, axes = plt.subplots(2, -(-len(names) // 2), figsize=(14, 6), sharex=True, layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        for colour, solver in enumerate(_solvers(rows)):
            for row in (row for row in shown if (row["function"], row["solver"]) == (name, solver)):
                values = [max(value, SOLVED) for value in row["medians"]]
                style = "-" if solver.startswith(OURS) else "--"
                axis.loglog(CHECKPOINTS[: len(values)], values, style, color=f"C{colour}", label=solver, lw=1.5)
        axis.set_title(f"{name}, {dim} dimensions", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("evaluations")
    figure.supylabel("best value (median over seeds)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _shares(rows: Rows) -> list[tuple[str, list[str]]]:
    """For each solver, and for the best of ours, the problems on which it is near the best, for each budget."""
    ours = f"the best of the {len([each for each in _solvers(rows) if each.startswith(OURS)])} lit-dcem"
    found: dict[str, list[str]] = {name: [] for name in (*_solvers(rows), ours)}
    for budget in _budgets(rows):
        problems = list(_problems(rows, budget).values())
        for values in problems:
            values[ours] = min((value for name, value in values.items() if name.startswith(OURS)), default=float("inf"))
        for name, cells in found.items():
            near = sum(values[name] <= NEAR * min(values.values()) for values in problems if name in values)
            cells.append(f"{near} of {sum(name in values for values in problems)}")
    return list(found.items())


def _problems(rows: Rows, budget: int) -> dict[tuple[str, int], dict[str, float]]:
    """The median value of every solver on each function and dimension, at least `SOLVED`."""
    problems: dict[tuple[str, int], dict[str, float]] = {}
    order = list(dict.fromkeys(row["function"] for row in rows))
    for row in sorted(rows, key=lambda row: (order.index(row["function"]), row["dim"])):
        if row["budget"] == budget:
            values = problems.setdefault((row["function"], row["dim"]), {})
            values[row["solver"]] = max(median(row["values"]), SOLVED)
    return problems


def _budgets(rows: Rows) -> list[int]:
    return sorted({row["budget"] for row in rows})


def _solvers(rows: Rows) -> list[str]:
    names = dict.fromkeys(row["solver"] for row in rows)
    return sorted(names, key=lambda name: not name.startswith(OURS))


def _short(value: float) -> str:
    return "solved" if value <= SOLVED else f"{value:.2g}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
