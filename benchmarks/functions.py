"""Compare our solvers with others on ten test functions: the best value after so many evaluations. See README.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from function_report import CHECKPOINTS, draw, markdown, summary_tables
from landscapes import FUNCTIONS, landscape
from minimisers import Minimiser, peers
from options import count
from ours import ours
from report import output_file, provenance, write_report
from rich.console import Console

DIMS = (2, 10, 20, 40)
BUDGETS = (1000, 10000)
SEEDS = 5

console = Console(width=120)


def main() -> None:
    """Run all solvers, print a summary, and write numbers, table and figure to the files that are given."""
    args = _parse()
    torch.set_num_threads(1)
    report = provenance([1], args.rounds)
    kept = _rows_of(args.keep) if args.keep else []
    budgets = tuple(budget // 10 for budget in BUDGETS) if args.quick else BUDGETS
    rows: list[dict[str, Any]] = []
    for name in FUNCTIONS:
        for dim in DIMS[:2] if args.quick else DIMS:
            console.print(f"{name}, {dim} dimensions", style="dim", highlight=False)
            rows += _measured(name, dim, args.rounds, budgets, report["commit"], kept, args.peers_only)
            if args.out:
                write_report(args.out, {**report, "timing": [], "budgets": budgets, "rows": rows})
    console.print(*summary_tables(rows))
    if args.markdown:
        args.markdown.write_text(markdown(rows))
    if args.figure:
        draw(rows, args.figure)


def _measured(
    name: str, dim: int, seeds: int, budgets: tuple[int, ...], commit: str, kept: list[dict[str, Any]], peers_only: bool
) -> list[dict[str, Any]]:
    """Measure the rows of one function and dimension, but for those that are kept from an earlier run."""
    problem = landscape(name, dim, seeds)
    old = [row for row in kept if (row["function"], row["dim"]) == (name, dim) and len(row["values"]) == seeds]
    rows = old or _rows(peers(), problem, budgets, budgets[-1:])
    if not peers_only:
        rows = _rows(ours(), problem, budgets, budgets) + rows
    return [{"function": name, "dim": dim, "commit": commit, **row} for row in rows]


def _rows(
    minimisers: list[Minimiser], problem: Any, budgets: tuple[int, ...], runs: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Run solvers, once for each budget if they plan for it. The first part of a longer run stands for a shorter one."""
    rows = []
    for minimise in minimisers:
        for run in runs:
            for solver, curves in minimise(problem, problem.optimum.shape[1], run).items():
                ends = [run] if len(runs) > 1 else budgets
                rows += [_row(solver, curves[:, :budget], budget) for budget in ends]
    return rows


def _row(solver: str, curves: torch.Tensor, budget: int) -> dict[str, Any]:
    ends = [each for each in CHECKPOINTS if each <= budget]
    medians = curves[:, torch.tensor(ends) - 1].median(0).values.tolist()
    return {"solver": solver, "budget": budget, "values": curves[:, -1].tolist(), "medians": medians}


def _rows_of(path: Path) -> list[dict[str, Any]]:
    """Read the rows of the peers in an earlier report."""
    return [row for row in json.loads(path.read_text())["rows"] if not row["solver"].startswith("lit-dcem")]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=count, default=SEEDS, help=f"seeds; {SEEDS} if not given")
    parser.add_argument("--quick", action="store_true", help="few dimensions and evaluations: a trial, not a result")
    parser.add_argument("--out", type=output_file, metavar="FILE.json", help="file for the numbers")
    parser.add_argument("--markdown", type=output_file, metavar="FILE.md", help="file for the table")
    parser.add_argument("--figure", type=output_file, metavar="FILE.png", help="file for best value against evaluations")
    parser.add_argument("--keep", type=Path, metavar="FILE.json", help="report whose peers are not run again")
    parser.add_argument("--peers_only", action="store_true", help="leave our own solvers out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
