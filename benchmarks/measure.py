"""Interleaved timing, and exact peak memory on the CPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from statistics import median, quantiles

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]

_SAMPLE_SECONDS = 0.03


@dataclass(frozen=True)
class Case:
    """One piece of work, as done by us and by peers, and a floor (or yardstick) to divide the times by."""

    what: str
    ours: Work
    peers: Mapping[str, Work]
    floor_name: str
    floor: Work


@dataclass(frozen=True)
class Row:
    """Ours against one peer: medians over the rounds, and quartiles of the peer's time over ours."""

    what: str
    threads: int
    clock: str
    ours_ms: float
    floor: str
    floor_ms: float
    ours_over_floor: float
    peer: str
    peer_ms: float
    peer_over_ours: float
    peer_over_ours_quartiles: tuple[float, float]


def time_case(case: Case, threads: int, rounds: int) -> list[Row]:
    """Time all works in turn, round by round, so that each ratio compares consecutive samples."""
    torch.set_num_threads(threads)
    clock, now = ("process CPU", time.process_time) if threads == 1 else ("wall", time.perf_counter)
    works = {"floor": case.floor, "ours": case.ours, **case.peers}
    repeats = {name: _repeats(work) for name, work in works.items()}
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            samples[name].append(_sample(work, repeats[name], now))
    return [_row(case, peer, threads, clock, samples) for peer in case.peers]


def peak_bytes(work: Work) -> int:
    """Return the peak memory of torch during the work, in bytes, beyond what it held before.

    The peak is computed from all allocations and releases that the profiler reports, so it is exact and hardly varies.
    """
    work()
    gc.collect()  # otherwise the second run may release cycles of the first, and seem to need less memory
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    result = profiler.profiler
    assert result is not None
    assert result.kineto_results is not None
    events = [event for event in result.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))  # pyright: ignore[reportAttributeAccessIssue]


def _repeats(work: Work) -> int:
    """Return how often to repeat the work in one sample for the clock to resolve it."""
    if _sample(work, 1, time.perf_counter) > 10 * _SAMPLE_SECONDS:  # even if much of it is overhead of the first call
        return 1
    return max(1, round(_SAMPLE_SECONDS / _sample(work, 3, time.perf_counter)))


def _sample(work: Work, repeats: int, now: Callable[[], float]) -> float:
    start = now()
    for _ in range(repeats):
        work()
    return (now() - start) / repeats


def _row(case: Case, peer: str, threads: int, clock: str, samples: dict[str, list[float]]) -> Row:
    to_peer = _ratios(samples[peer], samples["ours"])
    # A single round has no quartiles, so count it twice.
    quarter, _, three_quarters = quantiles(to_peer if len(to_peer) > 1 else 2 * to_peer, n=4)
    return Row(
        what=case.what,
        threads=threads,
        clock=clock,
        ours_ms=1e3 * median(samples["ours"]),
        floor=case.floor_name,
        floor_ms=1e3 * median(samples["floor"]),
        ours_over_floor=median(_ratios(samples["ours"], samples["floor"])),
        peer=peer,
        peer_ms=1e3 * median(samples[peer]),
        peer_over_ours=median(to_peer),
        peer_over_ours_quartiles=(quarter, three_quarters),
    )


def _ratios(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]
