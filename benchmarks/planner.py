"""Measure the time of a plan by CEM in a world model, against torchrl and plain tensors. See README.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from measure import Case, Row, Work, time_case
from options import PRECISIONS, options, parse
from planet_peers import HAS_TORCHRL, PlainModel, matrix_products, our_plan, plain_plan, torchrl_planner
from report import provenance, timing_table, write_report
from rich.console import Console

from lit_dcem import DCEM, ActionDecoder, CEMPlanner, LatentPlanner, WorldModel

OBSERVATIONS, ACTIONS, LATENTS, HORIZON = 17, 6, 12, 12
PAPER = {"num_candidates": 1000, "num_elites": 100, "num_iterations": 10}
EMBEDDED = {"num_candidates": 100, "num_elites": 10, "num_iterations": 10}
SEARCHES = PAPER, EMBEDDED
BOUNDS: dict[str, Any] = {"lower": -1.0, "upper": 1.0}


def main() -> None:
    """Measure, print a table, and write it to ``--out`` if given."""
    parser = options(__doc__, rounds=5, precisions=True)
    parser.add_argument("--envs", type=int, default=1, help="environments to plan for at once; no peers above 1")
    parser.add_argument("--compile", action="store_true", help="also time ours under torch.compile")
    args = parse(parser)
    torch.set_flush_denormal(True)  # as lit-dcem fit does
    torch.manual_seed(0)
    rows: list[Row] = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for case in cases(args.envs, args.compile, args.precisions, quick_searches() if args.quick else SEARCHES):
                rows += time_case(case, threads, args.rounds)
    Console(width=None if sys.stdout.isatty() else 120).print(timing_table(rows))
    if args.out:
        report = {**provenance(args.threads, args.rounds), "timing": [asdict(row) for row in rows]}
        write_report(args.out, report)


def quick_searches() -> tuple[dict[str, int], dict[str, int]]:
    """Return the same searches with two iterations: a trial, not a result."""
    full, embedded = ({**sizes, "num_iterations": 2} for sizes in SEARCHES)
    return full, embedded


def cases(
    num_envs: int,
    compiled: bool,
    precisions: list[str],
    searches: tuple[Mapping[str, int], Mapping[str, int]] = SEARCHES,
) -> Iterator[Case]:
    """Make the cases of full CEM in each precision, and of the embedded planner against it."""
    model, (full, embedded) = WorldModel(OBSERVATIONS, ACTIONS), searches
    peers = _peers(full) if num_envs == 1 else {}
    for precision in precisions:
        floor = _floor(model, full["num_candidates"] * num_envs, full["num_iterations"], PRECISIONS[precision])
        for sample in (True, False):
            ours = our_plan(_full(precision, sample, sizes=full), model, num_envs)
            others = dict(peers)
            if compiled:
                others["ours, compiled"] = our_plan(_full(precision, sample, compile=True, sizes=full), model, num_envs)
            what = f"full CEM {_budget(full):,}, {precision}, {'samples' if sample else 'means'}"
            yield Case(what, ours, others or {"itself": ours}, "matrix products alone", floor)
        yield embedded_case(model, num_envs, precision, full, embedded)


def embedded_case(
    model: WorldModel,
    num_envs: int,
    precision: str,
    full: Mapping[str, int] = PAPER,
    embedded: Mapping[str, int] = EMBEDDED,
) -> Case:
    """Make the case of the embedded planner against our full CEM in the same precision, which shows what it saves."""
    ours = our_plan(latent_planner(DCEM(**{**BOUNDS, **embedded}), precision), model, num_envs)
    peers = {f"full CEM {_budget(full):,}": our_plan(_full(precision, True, sizes=full), model, num_envs)}
    rows, iterations = embedded["num_candidates"] * num_envs, embedded["num_iterations"]
    floor = _floor(model, rows, iterations, PRECISIONS[precision])
    return Case(f"embedded DCEM {_budget(embedded):,}, {precision}", ours, peers, "matrix products alone", floor)


def latent_planner(solver: DCEM, precision: str = "float32") -> LatentPlanner:
    """Make an untrained embedded planner of the cheetah's sizes."""
    return LatentPlanner(ActionDecoder(LATENTS, HORIZON, ACTIONS), solver, precision=precision)  # pyright: ignore[reportArgumentType]


def _full(precision: str, sample: bool, compile: bool = False, sizes: Mapping[str, int] = PAPER) -> CEMPlanner:
    options = {"sample": sample, "precision": precision, "compile": compile}
    return CEMPlanner(DCEM(**{**BOUNDS, **sizes}, temperature=0.0), HORIZON, **options)


def _budget(sizes: Mapping[str, int]) -> int:
    return sizes["num_candidates"] * sizes["num_iterations"]


def _peers(full: Mapping[str, int]) -> dict[str, Work]:
    plain = PlainModel(OBSERVATIONS, ACTIONS)
    sizes = (full["num_candidates"], full["num_elites"], full["num_iterations"])
    peers: dict[str, Work] = {"plain tensors, float32": partial(plain_plan, plain, ACTIONS, *sizes)}
    if HAS_TORCHRL:
        peers["torchrl CEMPlanner, float32"] = torchrl_planner(plain, ACTIONS, *sizes)
    return peers


def _floor(model: WorldModel, rows: int, iterations: int, dtype: torch.dtype) -> Work:
    once = matrix_products(model, rows, dtype)
    return lambda: [once() for _ in range(iterations)]


if __name__ == "__main__":
    main()
