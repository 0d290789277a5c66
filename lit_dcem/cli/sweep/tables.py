"""Tables of the results of a sweep."""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from lit_dcem.cli.sweep.grid import Sweep
from lit_dcem.cli.sweep.phases import SEED
from lit_dcem.cli.sweep.process import ENDED, FINISHED, Process
from lit_dcem.cli.sweep.run import BEST, Evaluation, Run
from lit_dcem.errors import UsageError
from lit_dcem.files.replacing import open_replacing
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.statistics import mean_and_interval

STEPS = "val/simulator_steps"
RETURNS = "mean_return"
"""of the evaluation"""
Row = dict[str, Any]


def write_tables(processes: list[Process], sweep: Sweep) -> list[Row]:
    """Write ``results.csv``, a row for each run that ended, and ``curves.csv``, with all of their validations.

    Curves have a row for each validation; in a sweep with chains, one for each of its measures, with the columns
    ``simulator_steps``, ``metric`` and ``value``. Evaluations go into ``returns.csv``, a row for each episode.
    """
    table, curves = list[Row](), list[Row]()
    returns = {each.run.folder: each.returns() for each in processes if isinstance(each, Evaluation)}
    runs = [process for process in processes if isinstance(process, Run)]
    for run in runs:
        if run.recorded()["status"] in ENDED:
            checkpoint = run.checkpoint()
            rows = [] if checkpoint is None else checkpoint.history
            own = {RETURNS: _mean(returns[run.folder].values())} if sweep.episodes else {}
            table.append({**_result(run, checkpoint, rows, sweep), **own})
            curves += _measures(run, rows) if sweep.has_chains else [{**run.columns, **row} for row in rows]
    out = runs[0].folder.parent
    _write(out / "results.csv", table)
    columns = [*runs[0].columns, "simulator_steps", "metric", "value"] if sweep.has_chains else []
    _write(out / "curves.csv", curves, columns)
    if sweep.episodes:
        episodes = [row for each in processes if isinstance(each, Evaluation) for row in _episodes(each)]
        _write(out / "returns.csv", episodes, [*runs[0].columns, "checkpoint", "episode_seed", "return"])
    return table


def _result(run: Run, checkpoint: Checkpoint | None, rows: list[dict[str, float]], sweep: Sweep) -> Row:
    recorded = run.recorded()
    kept = run.best.name == BEST
    return {
        **run.columns,
        "status": recorded["status"],
        **_measured(rows, sweep),
        "steps": None if checkpoint is None else checkpoint.step,
        "seconds": rows[-1]["seconds"] if rows else None,
        "checkpoint": run.best.relative_to(run.folder.parent) if kept else None,
        "commit": recorded.get("commit"),
    }


def _measured(rows: list[dict[str, float]], sweep: Sweep) -> Row:
    """Best and last value of the metric, and the other measures where it was best."""
    metric, known = sweep.metric, sorted({name for row in rows for name in row if name.startswith("val/")})
    if rows and metric not in known:
        raise UsageError(f"The metric must be one of {', '.join(known)}, got {metric}.")
    finite = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
    if not finite:
        return {"best": None, "best_step": None, "last": None}
    best = (min if sweep.mode == "min" else max)(finite, key=lambda row: row[metric])
    summary = {"best": best[metric], "best_step": best["step"], "last": rows[-1].get(metric)}
    return {**summary, **{name: best.get(name) for name in known}}


def _measures(run: Run, rows: list[dict[str, float]]) -> Iterator[Row]:
    """All that was measured in a validation, each in a row."""
    for row in rows:
        place = {**run.columns, "simulator_steps": row.get(STEPS)}
        yield from ({**place, "metric": name, "value": value} for name, value in row.items() if name != STEPS)


def _episodes(evaluation: Evaluation) -> Iterator[Row]:
    origin = {**evaluation.columns, "checkpoint": evaluation.recorded().get("checkpoint")}
    for seed, value in evaluation.returns().items():
        yield {**origin, "episode_seed": seed, "return": value}


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.mean(values) if values else None


def _write(path: Path, rows: list[Row], columns: Iterable[str] = ()) -> None:
    with open_replacing(path) as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*columns, *itertools.chain(*rows)])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summary(table: list[Row], sweep: Sweep) -> Table:
    """Mean over the seeds of the best value, and its 95% interval, for each point of the rest of the grid.

    Where the runs were evaluated, also the mean return of that.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    seed = sweep.columns().get(SEED)
    for row in table:
        names = itertools.takewhile(lambda name: name != "status", row)
        point = tuple((name, str(row[name])) for name in names if name != seed)
        groups.setdefault(point, [])
        if row["status"] in FINISHED and row["best"] is not None:
            groups[point].append(row)
    shown = Table(*(name for name, _ in next(iter(groups), ())), "runs", sweep.metric, "95% interval")
    if sweep.episodes:
        shown.add_column("return, evaluated")
    for point, rows in groups.items():
        mean, half = _mean_and_half([row["best"] for row in rows])
        evaluated = [row[RETURNS] for row in rows if row.get(RETURNS) is not None]
        more = [_mean_and_half(evaluated)[0]] if sweep.episodes else []
        shown.add_row(*(value for _, value in point), str(len(rows)), mean, half, *more)
    return shown


def _mean_and_half(values: list[float]) -> tuple[str, str]:
    """As they are shown."""
    mean = f"{statistics.mean(values):.4g}" if values else "-"
    return mean, f"± {mean_and_interval(values)[1]:.2g}" if len(values) > 1 else "-"
