"""Measure speed, accuracy and memory of the solvers against plain peers; print tables, write JSON. See README.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import chain
from typing import Any

# Torch reads these on import: idle OpenMP workers must not spin, and the profiler must not write to stderr.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from cases import dcem_cases, dcem_memory, lml_accuracy, lml_cases, update_cases
from measure import Case, Row, time_case
from options import options, parse
from other_packages import HAS_DIFFTOPK, HAS_PYTORCH_MPPI, mppi_cases
from peers import HAS_EVOTORCH
from report import plain_table, provenance, timing_table, write_report
from rich.console import Console
from rich.table import Table

CASES: dict[str, Callable[[argparse.Namespace], Iterable[Case]]] = {
    "lml": lambda args: lml_cases(),
    "dcem": lambda args: dcem_cases(),
    "mppi": lambda args: mppi_cases(),
    "update": lambda args: update_cases(args.compile),
}
INSTALLED = {"difftopk": HAS_DIFFTOPK, "evotorch": HAS_EVOTORCH, "pytorch-mppi": HAS_PYTORCH_MPPI}

console = Console(width=None if sys.stdout.isatty() else 120)


def main() -> None:
    """Measure everything, print tables, and write them to ``--out`` if given."""
    args = _parse()
    for name, is_there in INSTALLED.items():
        if not is_there:
            console.print(
                f"{name} is not installed, so its rows are left out: pip install 'lit-dcem\\[bench]' adds it."
            )
    torch.set_num_threads(1)
    accuracy = list(lml_accuracy()) if "lml" in args.only else []
    memory = list(dcem_memory()) if "dcem" in args.only else []
    rows: list[Row] = []
    for threads in args.threads:
        for case in chain.from_iterable(CASES[part](args) for part in args.only):
            console.print(f"timing: {threads} threads, {case.what}", style="dim", highlight=False)
            rows += time_case(case, threads, args.rounds)
    console.print(timing_table(rows))
    if accuracy:
        console.print(_accuracy_table(accuracy))
    if memory:
        console.print(_memory_table(memory))
    if args.out:
        report = {**provenance(args.threads, args.rounds), "timing": [asdict(row) for row in rows]}
        write_report(args.out, {**report, "accuracy": accuracy, "memory": memory})


def _parse() -> argparse.Namespace:
    parser = options(__doc__, rounds=15)
    parser.add_argument("--compile", action="store_true", help="also time the compiled update (a minute, needs g++)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="parts; all if not given")
    return parse(parser)


def _accuracy_table(accuracy: list[dict[str, Any]]) -> Table:
    table = plain_table("Worst error in float32", "what", "method", "weight", "sum / k", "gradient")
    for entry in accuracy:
        errors = (entry[name] for name in ("weight_error", "sum_error_over_k", "gradient_error"))
        table.add_row(entry["what"], entry["method"], *(f"{error:.1e}" for error in errors))
    return table


def _memory_table(memory: list[dict[str, Any]]) -> Table:
    table = plain_table(
        "Peak memory of dcem, forward + backward, MiB", "checkpoint", "T = 5", "T = 10", "T = 20", "20 / 5"
    )
    for entry in memory:
        peaks = (f"{peak:.1f}" for peak in entry["peak_mib"].values())
        table.add_row(str(entry["checkpoint"]), *peaks, f"{entry['peak_20_over_5']:.2f}")
    return table


if __name__ == "__main__":
    main()
