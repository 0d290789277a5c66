"""Measure PlaNet's embedded controller: time of a decision, and time and memory of learning. See README.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

# Torch reads these on import: idle OpenMP workers must not spin, and the profiler must not write to stderr.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from controller_cases import THROUGH, WAYS, Sizes, decoder_case, decoder_step, decoder_works, ppo_case, ppo_works
from measure import Case, Row, Work, peak_bytes, time_case
from options import options, parse
from planner import ACTIONS, OBSERVATIONS, SEARCHES, embedded_case, quick_searches
from report import plain_table, provenance, timing_table, write_report
from rich.console import Console
from rich.table import Table

from lit_dcem import WorldModel

PARTS = ("decision", "decoder", "ppo")
SMALL = Sizes(candidates=20, iterations=2, beliefs=2, times=2, envs=2)
LARGE = {"beliefs": 64, "iterations": 10}
SHARE = 16
"""the estimate for the large decoder step is 16 times the peak with 16 times fewer beliefs"""
LIMIT = 20e9
"""bytes; the large step is not measured if its estimate is above this limit"""

console = Console(width=None if sys.stdout.isatty() else 120)


def main() -> None:
    """Measure the selected parts, print tables, and write them to ``--out`` if given."""
    args = _parse()
    torch.set_flush_denormal(True)  # as lit-dcem fit does
    torch.manual_seed(0)
    sizes = SMALL if args.quick else Sizes()
    torch.set_num_threads(max(args.threads))
    large = list(large_memory(sizes, args.quick)) if args.large else []
    memory = list(memories(sizes, args.only, args.precisions))
    rows: list[Row] = []
    for threads in args.threads:
        for case in cases(sizes, args.only, args.precisions, args.quick):
            console.print(f"timing: {threads} threads, {case.what}", style="dim", highlight=False)
            rows += time_case(case, threads, args.rounds)
    _print(rows, memory, large)
    if args.out:
        report = {**provenance(args.threads, args.rounds), "sizes": asdict(sizes)}
        report |= {"timing": [asdict(row) for row in rows], "memory": memory, "large_memory": large}
        write_report(args.out, report)


def cases(sizes: Sizes, parts: list[str], precisions: list[str], small: bool) -> Iterator[Case]:
    """Make the cases of the selected parts: decisions in each precision, a decoder step, a PPO update."""
    if "decision" in parts:
        model = WorldModel(OBSERVATIONS, ACTIONS)
        searches = quick_searches() if small else SEARCHES
        for precision in precisions:
            yield embedded_case(model, 1, precision, *searches)
    if "decoder" in parts:
        yield decoder_case(sizes, precisions)
    if "ppo" in parts:
        yield ppo_case(sizes, precisions)


def memories(sizes: Sizes, parts: list[str], precisions: list[str]) -> Iterator[dict[str, Any]]:
    """Measure peak memory of a decoder step and a PPO update with each method."""
    if "decoder" in parts:
        yield from _peaks(f"decoder step, {sizes.beliefs} beliefs", decoder_works(sizes, precisions))
    if "ppo" in parts:
        yield from _peaks(f"PPO update, {sizes.times} x {sizes.envs} steps", ppo_works(sizes, precisions))


def large_memory(sizes: Sizes, small: bool) -> Iterator[dict[str, Any]]:
    """Estimate peak memory of a decoder step of the paper's preset from fewer beliefs; measure it with checkpoint.

    Except for a few kilobytes, everything that a step allocates is proportional to the number of beliefs.
    """
    large = sizes if small else replace(sizes, **LARGE)
    large = replace(large, beliefs=max(large.beliefs, SHARE))
    few = replace(large, beliefs=large.beliefs // SHARE)
    for way in (THROUGH, "checkpoint"):
        estimate = SHARE * peak_bytes(decoder_step(few, **WAYS[way]))
        measure = way == "checkpoint" and estimate < LIMIT
        measured = peak_bytes(decoder_step(large, **WAYS[way])) if measure else None
        yield {
            "what": f"decoder step, {large.beliefs} beliefs, {large.iterations} iterations",
            "way": way,
            "estimate_mib": estimate / 2**20,
            "peak_mib": None if measured is None else measured / 2**20,
        }


def _peaks(what: str, works: Mapping[str, Work]) -> Iterator[dict[str, Any]]:
    first = None
    for way, work in works.items():
        console.print(f"memory: {what}, {way}", style="dim", highlight=False)
        peak = peak_bytes(work) / 2**20
        first = first or peak
        yield {"what": what, "way": way, "peak_mib": peak, "share": peak / first}


def _parse() -> argparse.Namespace:
    parser = options(__doc__, rounds=5, precisions=True)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument("--large", action="store_true", help="also measure the memory of 64 beliefs and 10 iterations")
    return parse(parser)


def _print(rows: list[Row], memory: list[dict[str, Any]], large: list[dict[str, Any]]) -> None:
    console.print(timing_table(rows))
    if memory:
        console.print(_memory_table(memory))
    if large:
        console.print(_large_table(large))


def _memory_table(memory: list[dict[str, Any]]) -> Table:
    table = plain_table("Peak memory", "what", "way", "MiB", f"/ {THROUGH}")
    for entry in memory:
        table.add_row(entry["what"], entry["way"], f"{entry['peak_mib']:.1f}", f"{entry['share']:.3f}")
    return table


def _large_table(large: list[dict[str, Any]]) -> Table:
    table = plain_table("Peak memory, the paper's preset, MiB", "what", "way", f"{SHARE} x a {SHARE}th", "measured")
    for entry in large:
        measured = "" if entry["peak_mib"] is None else f"{entry['peak_mib']:.1f}"
        table.add_row(entry["what"], entry["way"], f"{entry['estimate_mib']:.1f}", measured)
    return table


if __name__ == "__main__":
    main()
