"""Output of the benchmarks: tables of times, and a report of where and how they were measured."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from measure import Row
from rich.box import SIMPLE
from rich.table import Table

from lit_dcem.files.replacing import WriteError, check_writable, open_replacing


def output_file(path: str) -> Path:
    """Check, for argparse, that the file can be written, before measurements that may take hours."""
    try:
        check_writable(path, "It")
    except WriteError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(path)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the numbers as JSON; an old file is replaced in one step."""
    with open_replacing(path) as file:
        file.write(json.dumps(report, indent=1) + "\n")


def timing_table(rows: list[Row]) -> Table:
    """Make the table of times, with a row for each peer."""
    table = plain_table(
        "Time", "what", "threads", "ours ms", "floor ms", "ours / floor", "peer", "peer ms", "peer / ours"
    )
    for row in rows:
        numbers = _short(row.ours_ms), _short(row.floor_ms), _short(row.ours_over_floor)
        table.add_row(row.what, str(row.threads), *numbers, row.peer, _short(row.peer_ms), f"{row.peer_over_ours:.2f}")
    return table


def _short(number: float) -> str:
    """Format with three digits, or with all digits before the point."""
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def plain_table(title: str, *columns: str) -> Table:
    """Make an empty table."""
    table = Table(title=title, box=SIMPLE, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def provenance(threads: list[int], rounds: int) -> dict[str, Any]:
    """Return command, date, commit, machine, versions and settings."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _git_commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": threads,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "rounds": rounds,
    }


def _git_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
