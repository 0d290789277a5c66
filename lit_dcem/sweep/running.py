"""Train the runs of a sweep, here or on a cluster."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import joblib
from rich.console import Console
from rich.progress import Progress

from lit_dcem.checkpoint import PACKAGE
from lit_dcem.errors import UsageError
from lit_dcem.files import check_writable, writing
from lit_dcem.runs import history
from lit_dcem.sweep.grid import FINISHED, Run, as_options, plan, read_sweep
from lit_dcem.sweep.tables import summary, write_tables

START_SECONDS = 15  # of a run's share of the budget go into imports and closing, which Lightning's Timer does not see
ENDING = "lit_dcem.callbacks.ending.Ending"
SIGNALLED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit codes of a run that saved when it was told to stop
STOP = threading.Event()  # set by Ctrl-C and SIGTERM: no run starts, and those at work are ended


def sweep(
    file: str | Path,
    out: str | Path | None = None,
    backend: str = "joblib",
    jobs: int | None = None,
    budget: float | None = None,
) -> Path:
    """Train the runs of a sweep file that are not finished, from where they were; return the table, ``results.csv``.

    Args:
        file: YAML like configs/sweep_cartpole.yaml.
        out: folder of the tables and runs; ``runs/`` and the file's name if none.
        backend: "joblib" for this machine, or "ray" for a cluster whose machines share the folder.
        jobs: runs at a time; one for each core if none.
        budget: minutes of wall-clock for what is left to do, shared out evenly. A run that is out of time goes on if
            the next sweep leaves it more than it had.

    Raises:
        UsageError: what cannot be done, a run that another process works on, or runs that failed or were cut off.
    """
    if backend not in ("joblib", "ray") or (jobs is not None and jobs < 1):
        raise UsageError(f"The backend must be joblib or ray, with at least 1 job, got {backend} and {jobs}.")
    content, folder = read_sweep(Path(file)), Path(out or Path("runs", Path(file).stem))
    if os.path.isfile(folder):
        raise UsageError(f"--out must be a folder, got the file {folder}.")
    check_writable(folder / "results.csv", "--out")
    runs = plan(content, folder.resolve())
    to_do = [run for run in runs if run.recorded()["status"] != "done"]
    cores, largest = _ray_cores() if backend == "ray" else (joblib.cpu_count(),) * 2
    jobs = jobs or cores
    limit = time_limit(budget, jobs, len(to_do))
    for run in to_do:
        run.record("waiting")
    work = (to_do, jobs, max(1, min(cores // jobs, largest)), limit)
    with _signals():
        _follow((_on_ray if backend == "ray" else _on_joblib)(*work), runs, to_do, content["metric"])
    bad = {str(run.log): run.recorded()["status"] for run in to_do if run.recorded()["status"] not in FINISHED}
    if bad:
        how = "failed or were cut off" if "cut off" in bad.values() else "failed"
        raise UsageError(f"Every run must end well, got {len(bad)} of {len(runs)} that {how}: {', '.join(bad)}.")
    return runs[0].folder.parent / "results.csv"


def time_limit(budget: float | None, jobs: int, num_runs: int) -> str | None:
    """Each run's share of the budget [min], less its start, as ``--trainer.max_time`` takes it."""
    if budget is None or not num_runs:
        return None
    share = budget * 60 / math.ceil(num_runs / jobs) - START_SECONDS
    if not 1 <= share < math.inf:
        raise UsageError(f"The budget must leave {START_SECONDS + 1} s to each of {num_runs} runs, got {budget} min.")
    minutes, seconds = divmod(int(share), 60)
    return f"{minutes // 1440:02}:{minutes // 60 % 24:02}:{minutes % 60:02}:{seconds:02}"


def execute(run: Run, threads: int, limit: str | None) -> Run:
    """Train a run in a process of its own, from its last checkpoint on if it has one, and record how it ended."""
    if STOP.is_set():
        return run
    with writing(run.log):
        log = run.log.open("ab")
    with log:
        try:  # the process inherits the lock, so that one which outlived its sweep is noticed
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.write(b"Another process is at work on this run.\n")
            return run
        run.record("running", commit=_commit())
        run.ending.unlink(missing_ok=True)
        command = [sys.executable, "-m", "lit_dcem.cli", "fit", *_options(run, limit)]
        threading_ = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        code = _call(command, stdout=log, stderr=log, env={**threading_, **os.environ})
    if code is not None:
        run.record(_status(run, code))
    return run


def _options(run: Run, limit: str | None) -> list[str]:
    """The run's own, what tells its end, and where it goes on."""
    ending = [f"--trainer.callbacks+={ENDING}", f"--trainer.callbacks.path={run.ending}"]
    more: dict[str, Any] = {"trainer.max_time": limit} if limit else {}
    if run.checkpoint():
        more["ckpt_path"] = str(run.last)
    else:  # killed before the first one, or it is damaged: start over
        shutil.rmtree(run.folder / "version_0", ignore_errors=True)
    return [*run.options, *ending, *as_options(more, "--")]


def _call(command: list[str], **options: Any) -> int | None:
    """Exit code, or None if it was stopped."""
    process = subprocess.Popen(command, start_new_session=True, **options)  # Ctrl-C is ours to pass on
    try:
        while process.poll() is None and not STOP.wait(0.3):
            pass
        return process.poll()
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()  # nothing, if it has ended
            process.wait()


def _status(run: Run, code: int) -> str:
    """How a run ended: as it says itself; cut off if it says nothing, or ended by a signal."""
    if code < 0 or code in SIGNALLED or (code == 0 and run.own_end() is None):
        return "cut off"
    return "failed" if code or not run.checkpoint() else str(run.own_end())


def _on_joblib(runs: list[Run], jobs: int, threads: int, limit: str | None) -> Iterator[Run]:
    # Each run is a process already: threads wait for it, start at once, and see STOP.
    parallel = joblib.Parallel(max(1, min(jobs, len(runs))), backend="threading", return_as="generator_unordered")
    return cast("Iterator[Run]", parallel(joblib.delayed(execute)(run, threads, limit) for run in runs))


def _on_ray(runs: list[Run], jobs: int, threads: int, limit: str | None) -> Iterator[Run]:
    import ray  # pyright: ignore[reportMissingImports]

    task, queue = ray.remote(num_cpus=threads)(execute), iter(runs)
    working = [task.remote(run, threads, limit) for run in itertools.islice(queue, jobs)]
    while working and not STOP.is_set():
        ended, working = ray.wait(working, timeout=1)
        yield from ray.get(ended)
        working += [task.remote(run, threads, limit) for run in itertools.islice(queue, len(ended))]
    for each in working:
        ray.cancel(each)
    if working:
        ray.wait(working, num_returns=len(working), timeout=15)


def _ray_cores() -> tuple[int, int]:
    """CPU cores of the cluster, and of its largest machine."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError("The backend ray must be installed, got none: pip install 'lit-dcem[ray]'.") from None
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return sum(cores), max(cores)


def _follow(ended: Iterator[Run], runs: list[Run], to_do: list[Run], metric: str) -> None:
    """Show what goes on, and write the tables after each run."""
    console, over = Console(), threading.Event()
    with Progress(console=console, disable=not console.is_terminal, speed_estimate_period=math.inf) as bar:
        whole = bar.add_task(f"{len(runs)} runs", total=len(runs), completed=len(runs) - len(to_do))
        watcher = threading.Thread(target=_watch, args=(bar, to_do, metric, over), daemon=True)
        watcher.start()
        try:
            for run in ended:
                if STOP.is_set():
                    continue
                bar.advance(whole)
                log = run.log.read_text(errors="replace").strip().rpartition("\n")[2]
                console.print(f"{run.folder.name}: {run.recorded()['status']}. {log}", markup=False, soft_wrap=True)
                write_tables(runs, metric)
        except BaseException:
            STOP.set()
            for _ in ended:
                pass
            raise
        finally:
            over.set()
            watcher.join()
    console.print(summary(write_tables(runs, metric), metric))
    if STOP.is_set():
        raise KeyboardInterrupt("Stopped; the same command goes on.")


def _watch(bar: Progress, runs: list[Run], metric: str, over: threading.Event) -> None:
    """A line for each run at work, from its last checkpoint; runs of a cluster show nothing else."""
    lines = [bar.add_task(run.folder.name, total=None, visible=False) for run in runs]
    while bar.console.is_terminal and not over.wait(10):
        for line, run in zip(lines, runs, strict=True):
            at_work = run.recorded()["status"] == "running"
            newest = (history(run.checkpoint()) if at_work else [])[-1:]
            text = "".join(f" step {row['step']:.0f}, {metric} {row.get(metric, math.nan):.4g}" for row in newest)
            bar.update(line, visible=at_work, description=run.folder.name + text)


def _commit() -> str:
    """The git commit of a checkout, marked if files differ from it; empty for an installed package."""
    if not (PACKAGE.parent / ".git").exists():
        return ""
    command = ["git", "-C", str(PACKAGE.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git
        return ""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM set STOP, where signals can be handled."""
    STOP.clear()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.signal(each, lambda *_: STOP.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
