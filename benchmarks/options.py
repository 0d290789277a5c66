"""Options that all benchmarks share."""

from __future__ import annotations

import argparse

import torch
from report import output_file

from lit_dcem.training.bfloat16 import multiplies_bfloat16_faster

QUICK_ROUNDS = 3
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def options(description: str | None, rounds: int, precisions: bool = False) -> argparse.ArgumentParser:
    """Make a parser of ``--threads``, ``--rounds``, ``--quick``, ``--out`` and, if asked for, ``--precisions``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--threads", type=count, nargs="+", default=[1, 2], help="1: process CPU time, otherwise wall time"
    )
    parser.add_argument("--rounds", type=count, help=f"rounds of ours, floor and peers in turn; {rounds} if not given")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds and less work: a trial, not a result"
    )
    parser.add_argument("--out", type=output_file, metavar="FILE.json", help="file for the numbers")
    if precisions:
        text = "both if not given, but only float32 if the processor multiplies bfloat16 slowly"
        parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), help=text)
    parser.set_defaults(usual_rounds=rounds)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line and fill in rounds and precisions. Print a note if bfloat16 is left out."""
    args = parser.parse_args()
    args.rounds = args.rounds or (QUICK_ROUNDS if args.quick else args.usual_rounds)
    if "precisions" in args and args.precisions is None:
        args.precisions = list(PRECISIONS) if has_fast_bfloat16() else ["float32"]
        if "bfloat16" not in args.precisions:
            print(
                "This processor multiplies bfloat16 slowly, so its rows are left out: --precisions bfloat16 adds them."
            )
    return args


def has_fast_bfloat16() -> bool:
    """Return whether the processor has bfloat16 instructions (AVX-512-BF16 or AMX); others are several times slower."""
    return multiplies_bfloat16_faster(torch.device("cpu"))


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number
