"""Do the chains of a sweep, several at a time and each in its order, here or on a cluster."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import joblib

from lit_dcem.cli.sweep import execution
from lit_dcem.cli.sweep.execution import STOP
from lit_dcem.cli.sweep.process import Process
from lit_dcem.cli.sweep.run import Run
from lit_dcem.errors import UsageError

START_SECONDS = 15  # of a run's share of the budget go into imports and closing, which Lightning's Timer does not see
Chain = Sequence[Process]
Steps = Iterator[tuple[Process, float | None]]


def share_out(budget: float | None, jobs: int, num_chains: int) -> float | None:
    """Seconds of the budget [min] for each chain, less the start of one process."""
    if budget is None or not num_chains:
        return None
    share = budget * 60 / math.ceil(num_chains / jobs) - START_SECONDS
    if not 1 <= share < math.inf:
        raise UsageError(f"The budget must leave {START_SECONDS + 1} s to each of {num_chains} runs, got {budget} min.")
    return share


def steps_of(chain: Chain, share: float | None) -> Steps:
    """What is to do in a chain, each with its limit [s]; ask for the next one when the one before has ended.

    A process may take all the time that its chain has left. A chain ends where a run is not done at its end.
    """
    began = time.monotonic()
    for process in chain:
        if process.is_done():
            continue
        left = None if share is None else share - (time.monotonic() - began)
        if left is not None and left < 1:
            process.record("out of time")
        else:
            yield process, left
        if isinstance(process, Run) and not process.is_done():
            return


def on_joblib(chains: Sequence[Chain], jobs: int, threads: int, share: float | None) -> Iterator[Process]:
    """Yield the processes as they end. Each is one of the system: threads wait for it, start at once, and see STOP."""
    ended: queue.SimpleQueue[Process | BaseException | None] = queue.SimpleQueue()
    parallel = joblib.Parallel(max(1, min(jobs, len(chains))), backend="threading")
    work = [joblib.delayed(_work)(chain, threads, share, ended) for chain in chains]
    worker = threading.Thread(target=parallel, args=(work,))
    worker.start()
    try:
        for _ in chains:
            for each in iter(ended.get, None):
                if isinstance(each, BaseException):
                    raise each
                yield each
    except BaseException:
        STOP.set()
        raise
    finally:
        worker.join()


def _work(chain: Chain, threads: int, share: float | None, ended: queue.SimpleQueue[Any]) -> None:
    """Put each process into the queue when it has ended, an error if there is one, and None at last."""
    try:
        for process, limit in steps_of(chain, share):
            ended.put(execution.execute(process, threads, limit))
    except BaseException as error:
        ended.put(error)
    finally:
        ended.put(None)


def on_ray(chains: Sequence[Chain], jobs: int, threads: int, share: float | None) -> Iterator[Process]:
    """Yield the processes as they end, each of them a task on some machine of the cluster."""
    import ray  # pyright: ignore[reportMissingImports]

    task = ray.remote(num_cpus=threads)(execution.execute)
    waiting, working = (steps_of(chain, share) for chain in chains), dict[Any, Steps]()

    def start(candidates: Iterator[Steps]) -> None:
        """One process, of the first chain that has something to do."""
        for steps in candidates:
            for process, limit in itertools.islice(steps, 1):
                working[task.remote(process, threads, limit)] = steps
                return

    for _ in range(min(jobs, len(chains))):
        start(waiting)
    while working and not STOP.is_set():
        for each in ray.wait(list(working), timeout=1)[0]:
            steps = working.pop(each)
            yield ray.get(each)
            start(itertools.chain([steps], waiting))
    for each in working:
        ray.cancel(each)
    if working:
        ray.wait(list(working), num_returns=len(working), timeout=15)


def ray_cores() -> tuple[int, int]:
    """CPU cores of the cluster, and of its largest machine."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError("The backend ray must be installed, got none: pip install 'ray[default]'.") from None
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return sum(cores), max(cores)
