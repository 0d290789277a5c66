"""Where a checkpoint comes from: code, machine and seed of its run."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lit_dcem.files.shipped import PACKAGE


class Origin(pl.Callback):
    """Keeps in the checkpoint the commits and machines that a run was trained with, in order, and its seed.

    Args:
        seed: of the run; None if it has none.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._commits: list[str] = []
        self._machines: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "commits": self._commits, "hardware": self._machines}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._commits, self._machines = list(state_dict["commits"]), list(state_dict["hardware"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for known, now in ((self._commits, commit()), (self._machines, machine())):
            if now and now not in known[-1:]:
                known.append(now)


def commit() -> str:
    """The git commit of a checkout, marked if files differ from it; empty for an installed package."""
    if not (PACKAGE.parent / ".git").exists():
        return ""
    command = ["git", "-C", str(PACKAGE.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git
        return ""


def machine() -> str:
    """Threads, processor and GPU of this process, such as "2 threads of AMD EPYC 7763, no GPU"."""
    threads = torch.get_num_threads()
    gpu = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return f"{threads} thread{'s' * (threads > 1)} of {_processor()}, {gpu}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
