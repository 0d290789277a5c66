"""Train and evaluate the runs of a sweep, and show their progress."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import joblib
from rich.console import Console
from rich.progress import Progress

from lit_dcem.cli.sweep import checking
from lit_dcem.cli.sweep.backends import Chain, on_joblib, on_ray, ray_cores, share_out
from lit_dcem.cli.sweep.execution import STOP
from lit_dcem.cli.sweep.grid import Sweep, copy_configs, plan, read_sweep
from lit_dcem.cli.sweep.process import FINISHED, Process
from lit_dcem.cli.sweep.run import Run
from lit_dcem.cli.sweep.tables import summary, write_tables
from lit_dcem.errors import StoppedError, UsageError
from lit_dcem.files.replacing import check_writable
from lit_dcem.training.progress import bars


def sweep(
    file: str | Path,
    out: str | Path | None = None,
    backend: str = "joblib",
    jobs: int | None = None,
    budget: float | None = None,
) -> Path:
    """Train the runs of a sweep file that are not finished, from where they were; return the table, ``results.csv``.

    Args:
        file: YAML like configs/sweep_cartpole.yaml, or like configs/sweep_planet.yaml with chains: lists of phases,
            each of which begins when the one before it is done, and evaluations.
        out: folder of the tables and runs; ``runs/`` and the file's name if none.
        backend: "joblib" for this machine, or "ray" for a cluster whose machines share the folder.
        jobs: runs at a time; one for each core if none.
        budget: minutes of wall-clock for all unfinished runs, shared out evenly. A run that uses up its share stops
            there; the next sweep resumes it if its share is then larger. A phase may use all that is left of its
            chain's share; if it uses it up, the next phase does not begin.

    Raises:
        UsageError: what cannot be done, a run that another process works on, or runs that failed or were cut off.
        StoppedError: a signal ended the sweep.
    """
    if backend not in ("joblib", "ray") or (jobs is not None and jobs < 1):
        raise UsageError(f"The backend must be joblib or ray, with at least 1 job, got {backend} and {jobs}.")
    content, folder = read_sweep(Path(file)), Path(out or Path("runs", Path(file).stem))
    if os.path.isfile(folder):
        raise UsageError(f"--out must be a folder, got the file {folder}.")
    check_writable(folder / "results.csv", "--out")
    processes = plan(content, folder.resolve())
    chains = [chain for chain in _chains(processes) if not all(process.is_done() for process in chain)]
    cores, largest = ray_cores() if backend == "ray" else (joblib.cpu_count(),) * 2
    jobs = jobs or cores
    share = share_out(budget, jobs, len(chains))
    to_do = [process for chain in chains for process in chain if not process.is_done()]
    runs = [run for chain in chains for run in chain if isinstance(run, Run)]
    checking.check_runs(runs, content.metric)
    copy_configs(runs)
    for process in to_do:
        process.record("waiting")
    work = (chains, jobs, max(1, min(cores // jobs, largest)), share)
    with _signals() as received:
        _follow((on_ray if backend == "ray" else on_joblib)(*work), processes, to_do, content)
        if STOP.is_set():
            code = 128 + (received[0] if received else signal.SIGINT)
            raise StoppedError(code, "Stopped; the same command resumes the sweep.")
    _check_ends(chains, len(processes))
    return folder.resolve() / "results.csv"


def _chains(processes: list[Process]) -> list[Chain]:
    return [list(chain) for _, chain in itertools.groupby(processes, lambda process: process.chain)]


def _check_ends(chains: list[Chain], count: int) -> None:
    """Raise a UsageError if a process did not come to its end, but for those that wait for such a one."""
    bad: dict[Path, str] = {}
    for process in itertools.chain.from_iterable(map(_begun, chains)):
        status = process.recorded()["status"]
        if status not in FINISHED:
            bad[process.log] = status
    if bad:
        how = "failed or were cut off" if "cut off" in bad.values() else "failed"
        first, *others = bad
        logs = ", ".join([f"{first} ({_last_line(first).rstrip('.')})", *map(str, others)])
        raise UsageError(f"Every run must end well, got {len(bad)} of {count} that {how}: {logs}.")


def _last_line(log: Path) -> str:
    return log.read_text(errors="replace").strip().rpartition("\n")[2] if log.is_file() else "no log"


def _begun(chain: Chain) -> Iterator[Process]:
    """Up to the first run that is not done."""
    for process in chain:
        yield process
        if isinstance(process, Run) and not process.is_done():
            return


def _follow(ended: Iterator[Process], processes: list[Process], to_do: list[Process], content: Sweep) -> None:
    """Show the progress, and write the tables after each process."""
    console, over, count = Console(), threading.Event(), len(processes)
    with bars(console) as bar:
        done = count - len(to_do)
        whole = bar.add_task(f"{count} runs", total=count, completed=done, begun=done)
        watcher = threading.Thread(target=_watch, args=(bar, to_do, content.metric, over), daemon=True)
        watcher.start()
        try:
            for process in ended:
                if STOP.is_set():
                    continue
                bar.advance(whole)
                ending = f"{process.name}: {process.recorded()['status']}. {_last_line(process.log)}"
                console.print(ending, markup=False, soft_wrap=True)
                write_tables(processes, content)
        except BaseException:
            STOP.set()
            for _ in ended:
                pass
            raise
        finally:
            over.set()
            watcher.join()
    console.print(summary(write_tables(processes, content), content))


def _watch(bar: Progress, processes: list[Process], metric: str, over: threading.Event) -> None:
    """A line for each process at work, with the last validation of a run: on a cluster that is all there is to see."""
    lines = [bar.add_task(process.name, total=None, visible=False) for process in processes]
    while bar.console.is_terminal and not over.wait(10):
        for line, process in zip(lines, processes, strict=True):
            at_work = process.recorded()["status"] == "running"
            checkpoint = process.checkpoint() if at_work and isinstance(process, Run) else None
            newest = [] if checkpoint is None else checkpoint.history[-1:]
            text = "".join(f" step {row['step']:.0f}, {metric} {row.get(metric, math.nan):.4g}" for row in newest)
            bar.update(line, visible=at_work, description=process.name + text)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM set STOP, where signals can be handled; gives the list of those that arrived."""
    STOP.clear()
    received: list[int] = []
    before = {}

    def receive(number: int, _: object) -> None:
        received.append(number)
        STOP.set()

    if threading.current_thread() is threading.main_thread():
        before = {each: signal.signal(each, receive) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
