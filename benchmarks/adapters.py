"""Compare our solvers with those of TorchRL or stable-worldmodel, in their own examples. See docs/adapters.md."""

from __future__ import annotations

import argparse
import json
import math
from importlib import import_module
from statistics import fmean, stdev

import torch
from options import count
from report import output_file, plain_table, provenance, write_report
from rich.console import Console

MODULES = {"torchrl": "torchrl_plans", "stable-worldmodel": "worldmodel_plans"}
SEEDS = 3

Found = dict[str, dict[str, list[float]]]
"""of each example and each solver, the numbers of all seeds"""


def main() -> None:
    """Run the examples of a package with its solvers and ours; print means, and write all numbers if asked to."""
    parser = _parser()
    args = parser.parse_args()
    torch.set_num_threads(1)
    report, found = provenance([1], args.rounds), {}
    examples = import_module(MODULES[args.package]).EXAMPLES
    chosen = args.only or list(examples)
    if not set(chosen) <= set(examples):
        parser.error(f"--only must be of {', '.join(examples)}, got {', '.join(chosen)}.")
    for seed in range(args.rounds):
        for name in chosen:
            _extend(found, examples[name](seed, args.quick))
        if args.out:
            write_report(args.out, {**report, "package": args.package, "seeds": seed + 1, "found": _short(found)})
    console = Console(width=120)
    for example, solvers in found.items():
        table = plain_table(example, "solver", "mean", "standard error")
        for solver, numbers in solvers.items():
            error = stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
            table.add_row(solver, f"{fmean(numbers):.4g}", f"{error:.2g}")
        console.print(table)


def _extend(found: Found, more: Found) -> None:
    for example, solvers in more.items():
        for solver, numbers in solvers.items():
            found.setdefault(example, {}).setdefault(solver, []).extend(numbers)


def _short(found: Found) -> Found:
    return json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.5g}"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=MODULES)
    parser.add_argument("--only", nargs="+", metavar="EXAMPLE", help="examples of the package; all if not given")
    parser.add_argument("--rounds", type=count, default=SEEDS, help=f"seeds; {SEEDS} if not given")
    parser.add_argument("--quick", action="store_true", help="a trial, not a result")
    parser.add_argument("--out", type=output_file, metavar="FILE.json", help="file for the numbers")
    return parser


if __name__ == "__main__":
    main()
