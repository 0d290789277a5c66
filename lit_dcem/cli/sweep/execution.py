"""Do one process of a sweep, on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from typing import Any

from lit_dcem.cli.sweep.process import TIMED_OUT, Process
from lit_dcem.cli.sweep.run import Run
from lit_dcem.files.replacing import writing
from lit_dcem.training.origin import commit

STOP = threading.Event()  # set by Ctrl-C and SIGTERM: no process starts, and those at work are ended


def execute(process: Process, threads: int, limit: float | None) -> Process:
    """Train a run, from its last checkpoint if it has one, or evaluate it; record how it ended.

    Args:
        process: what is to be done, as a process of its own.
        threads: that it may use.
        limit: seconds after which it is to end.
    """
    if STOP.is_set():
        return process
    with writing(process.log):
        log = process.log.open("ab")
    with log:
        try:  # the process inherits the lock, so that one which outlived its sweep is noticed
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.write(b"Another process is at work on this run.\n")
            return process
        process.record("running", commit=commit())
        command = [sys.executable, "-m", "lit_dcem.cli.main", *process.begin(limit)]
        threading_ = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        seconds = None if isinstance(process, Run) else limit  # a training sees to its end itself
        code = _call(command, seconds, stdout=log, stderr=log, env={**threading_, **os.environ})
    if code is not None:
        process.record(process.ended(code, limit))
    return process


def _call(command: list[str], seconds: float | None = None, **options: Any) -> int | None:
    """Exit code; `TIMED_OUT` if it was ended after ``seconds``; None if it was stopped."""
    process, began = subprocess.Popen(command, start_new_session=True, **options), time.monotonic()
    try:  # in a session of its own: Ctrl-C is ours to pass on
        while process.poll() is None and not STOP.wait(0.3):
            if seconds is not None and time.monotonic() - began > seconds:
                return TIMED_OUT
        return process.poll()
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()  # nothing, if it has ended
            process.wait()
