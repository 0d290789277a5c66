"""What trainings and evaluations of a sweep have in common: a folder, and what is recorded there."""

from __future__ import annotations

import contextlib
import fcntl
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_dcem.files.replacing import open_replacing
from lit_dcem.training.last_checkpoint import SIGNALS

FINISHED = ("done", "out of time")
ENDED = (*FINISHED, "failed", "cut off")
SIGNALLED = tuple(128 + number for number in SIGNALS)  # exit codes of a run that saved when it was told to stop
TIMED_OUT = 124
"""exit code that stands for a process that was ended at its limit of time"""


@dataclass(frozen=True)
class Process(ABC):
    """One command of a sweep.

    Those of a chain run one after another. ``columns`` are its first columns in tables. It can only be resumed with the
    ``settings`` that it began with.
    """

    folder: Path
    chain: str
    columns: dict[str, Any]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def recorded(self) -> dict[str, Any]:
        """What the sweep knows of it: at least its status."""
        return {"status": "new", **read_json(self.folder / "result.json")}

    def record(self, status: str, **more: Any) -> None:
        with open_replacing(self.folder / "result.json") as file:
            json.dump({**self.recorded(), **self.settings, "status": status, **more}, file, indent=1)

    def changed(self) -> list[str]:
        """The settings that are not those recorded."""
        recorded = self.recorded()
        return [key for key, value in self.settings.items() if recorded.get(key) != value]

    def is_done(self) -> bool:
        return self.recorded()["status"] == "done" and not self.changed()

    def at_work(self) -> bool:
        """Whether a process is at work on it: that process holds a lock on the log."""
        try:
            with self.log.open("r+b") as log:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # there is no log yet
            return False
        return False

    @abstractmethod
    def begin(self, limit: float | None) -> list[str]:
        """Arguments of ``lit-dcem`` that start or resume it, for at most ``limit`` seconds."""

    def ended(self, code: int, limit: float | None) -> str:
        """How it ended, one of `ENDED`; the code is that of its exit, the limit what `begin` was given."""
        if code == TIMED_OUT:
            return "out of time"
        return "cut off" if code < 0 or code in SIGNALLED else "failed"


def as_options(options: dict[str, Any], prefix: str = "") -> list[str]:
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in options.items()}
    return [f"{prefix}{key}={text}" for key, text in texts.items()]


def read_json(path: Path) -> dict[str, Any]:
    """Empty if there is no such file, or it holds something else."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
