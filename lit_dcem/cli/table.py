"""What ``lit-dcem evaluate`` shows of its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lit_dcem.cartpole.module import EXPERT_COST

Report = dict[str, Any]
"""The numbers of one planner, as they go into the JSON file."""
ROWS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "cost": ("mean cost", lambda value: f"{value:.2f}"),
    "cost_interval": ("  95% interval over states", lambda value: f"{value[0]:.2f} .. {value[1]:.2f}"),
    "cost_std_over_seeds": ("  standard deviation over seeds", lambda value: "-" if value is None else f"{value:.2f}"),
    "improvement": (f"  over the paper's expert ({EXPERT_COST})", lambda value: f"x {value:.3f}"),
    "seconds_upright": ("seconds upright", lambda value: f"{value:.2f}"),
    "balanced": ("balanced at the end", lambda value: f"{value:.0%}"),
    "trajectories": ("trajectories a plan", lambda value: "-" if value is None else f"{value:,}"),
    "seconds": ("seconds to plan for all states", lambda value: f"{value:.3f}"),
    "median": ("median return", lambda value: f"{value:.1f}"),
    "quartiles": ("  quartiles", lambda value: f"{value[0]:.1f} .. {value[1]:.1f}"),
    "mean": ("mean return", lambda value: f"{value:.1f}"),
    "mean_interval": ("  95% interval", lambda value: f"{value[0]:.1f} .. {value[1]:.1f}"),
    "trajectories_a_decision": ("trajectories a decision", lambda value: f"{value:,}"),
    "seconds_per_decision": ("seconds a decision, one environment", lambda value: f"{value:.4f}"),
}
"""Entries of a report that the table shows: title and format."""


def table_of(reports: dict[str, Report]) -> Table:
    """A column for each planner."""
    table = Table("", box=SIMPLE_HEAD)
    for name in reports:
        table.add_column(name, justify="right")
    for key, (title, show) in ROWS.items():
        if all(key in report for report in reports.values()):
            table.add_row(title, *[show(report[key]) for report in reports.values()])
    return table
