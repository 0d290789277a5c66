"""What the runs of a sweep came to."""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from typing import Any

from rich.table import Table

from lit_dcem.errors import UsageError
from lit_dcem.evaluation import mean_and_interval
from lit_dcem.files import open_replacing
from lit_dcem.runs import history
from lit_dcem.sweep.grid import ENDED, FINISHED, Run

SEED = "seed_everything"  # its runs are averaged over


def write_tables(runs: list[Run], metric: str) -> list[dict[str, Any]]:
    """Write ``results.csv``, a row for each run that ended, and ``curves.csv``, a row for each of their validations."""
    table, curves = [], []
    for run in runs:
        recorded, checkpoint = run.recorded(), run.checkpoint()
        if recorded["status"] in ENDED:
            rows = history(checkpoint)
            status = {"status": recorded["status"], **_measured(rows, metric)}
            seconds = {"steps": checkpoint.get("global_step"), "seconds": rows[-1]["seconds"] if rows else None}
            best = run.last.with_name("best.ckpt")
            origin = {
                "checkpoint": best.relative_to(run.folder.parent) if best.is_file() else None,
                "commit": recorded.get("commit"),
            }
            table.append({**run.columns, **status, **seconds, **origin})
            curves += [{**run.columns, **row} for row in rows]
    for name, rows in (("results", table), ("curves", curves)):
        with open_replacing(runs[0].folder.parent / f"{name}.csv") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(itertools.chain(*rows))), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return table


def _measured(rows: list[dict[str, float]], metric: str) -> dict[str, float | None]:
    """Best and last value of the metric, and the other measures where it was best."""
    known = sorted({name for row in rows for name in row if name.startswith("val/")})
    if rows and metric not in known:
        raise UsageError(f"The metric must be one of {', '.join(known)}, got {metric}.")
    finite = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
    if not finite:
        return {"best": None, "best_step": None, "last": None}
    best = min(finite, key=lambda row: row[metric])
    summary = {"best": best[metric], "best_step": best["step"], "last": rows[-1].get(metric)}
    return {**summary, **{name: best.get(name) for name in known}}


def summary(table: list[dict[str, Any]], metric: str) -> Table:
    """Mean over the seeds of the best value, and its 95% interval, for each point of the rest of the grid."""
    groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for row in table:
        names = itertools.takewhile(lambda name: name != "status", row)
        point = tuple((name, str(row[name])) for name in names if name != SEED)
        groups.setdefault(point, [])
        if row["status"] in FINISHED and row["best"] is not None:
            groups[point].append(row["best"])
    names = [name for name, _ in next(iter(groups), ())]
    shown = Table(*names, "runs", metric, "95% interval")
    for point, values in groups.items():
        mean = f"{statistics.mean(values):.4g}" if values else "-"
        half = f"± {mean_and_interval(values)[1]:.2g}" if len(values) > 1 else "-"
        shown.add_row(*(value for _, value in point), str(len(values)), mean, half)
    return shown
