"""Compare solvers on ten test functions by the best value found within a budget of evaluations. See README.md."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from function_report import CHECKPOINTS, OURS, Rows, draw, markdown, short, summary_table, write_rows
from landscapes import FUNCTIONS, Landscape, Several, landscape
from minimisers import peers
from options import count
from ours import ours
from report import output_file, provenance
from rich.console import Console
from torch import Tensor

DIMS = (2, 10, 20, 40)
BUDGETS = (1000, 10000)
SEEDS = 5

console = Console(width=120)


def main() -> None:
    """Run all solvers, print a summary, and write numbers, table and figure to the files that are given."""
    args = _parse()
    torch.set_num_threads(1)
    report = provenance([1], args.rounds)
    budgets = [budget // 10 for budget in BUDGETS] if args.quick else BUDGETS
    dims = DIMS[:2] if args.quick else DIMS
    kept = _peers_in(args.keep, args.rounds, budgets) if args.keep else []
    rows: Rows = []
    for dim in dims:
        problems = {name: landscape(name, dim, args.rounds) for name in FUNCTIONS}
        found = {} if args.peers_only else _ours(problems, budgets)
        for name, problem in problems.items():
            console.print(f"{name}, {dim} dimensions", style="dim", highlight=False)
            old = [row for row in kept if (row["function"], row["dim"]) == (name, dim)]
            found_here = found.get(name, []) + old + _peers(problem, budgets, args.without, old)
            where = {"function": name, "dim": dim, "commit": report["commit"]}
            rows += [{**where, **row} for row in found_here]
            if args.out:
                write_rows(args.out, {**report, "budgets": budgets}, rows)
    console.print(summary_table(rows))
    if args.markdown:
        args.markdown.write_text(markdown(rows))
    if args.figure:
        draw(rows, args.figure)


def _ours(problems: dict[str, Landscape], budgets: Sequence[int]) -> dict[str, Rows]:
    """Run our solvers on all functions at once, with a search of its own for each budget, which it plans for."""
    several = Several(list(problems.values()))
    rows: dict[str, Rows] = {name: [] for name in problems}
    for minimise, budget in itertools.product(ours().values(), budgets):
        ((solver, curves),) = minimise(several, several.optimum.shape[1], budget).items()
        for name, part in zip(problems, curves.chunk(len(problems)), strict=True):
            rows[name].append(_row(solver, part, budget))
    return rows


def _peers(problem: Landscape, budgets: Sequence[int], without: list[str], there: Rows) -> Rows:
    """Run the peers once, for the largest budget: they do not plan, so its first part stands for a smaller budget."""
    skipped = {*without, *(row["solver"] for row in there)}
    dim = problem.optimum.shape[1]
    missing = [minimise for name, minimise in peers().items() if name not in skipped]
    curves = [each for minimise in missing for each in minimise(problem, dim, budgets[-1]).items()]
    return [_row(solver, curve[:, :budget], budget) for solver, curve in curves for budget in budgets]


def _row(solver: str, curves: Tensor, budget: int) -> dict[str, Any]:
    ends = [each for each in CHECKPOINTS if each <= budget]
    medians = curves[:, torch.tensor(ends) - 1].median(0).values
    return {"solver": solver, "budget": budget, "values": short(curves[:, -1]), "medians": short(medians)}


def _peers_in(path: Path, seeds: int, budgets: Sequence[int]) -> Rows:
    """Read the rows of the peers in an earlier report, as far as they are of the same size."""
    rows = json.loads(path.read_text())["rows"]
    fit = (row for row in rows if len(row["values"]) == seeds and row["budget"] in budgets)
    return [row for row in fit if not row["solver"].startswith(OURS)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=count, default=SEEDS, help=f"seeds; {SEEDS} if not given")
    parser.add_argument("--quick", action="store_true", help="few dimensions and evaluations: a trial, not a result")
    parser.add_argument("--out", type=output_file, metavar="FILE.json", help="file for the numbers")
    parser.add_argument("--markdown", type=output_file, metavar="FILE.md", help="file for the table")
    parser.add_argument("--figure", type=output_file, metavar="FILE.png", help="file for the curves")
    parser.add_argument("--keep", type=Path, metavar="FILE.json", help="report whose peers are not run again")
    parser.add_argument("--without", nargs="+", default=[], metavar="SOLVER", help="peers to leave out")
    parser.add_argument("--peers_only", action="store_true", help="leave our own solvers out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
