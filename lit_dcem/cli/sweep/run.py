"""The two kinds of processes of a sweep: a run that trains, and an evaluation of what it has learned."""

from __future__ import annotations

import contextlib
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Timer

from lit_dcem.cli.sweep.process import FINISHED, Process, as_options, read_json
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import EVALUATION_SEEDS
from lit_dcem.training.checkpoint import Checkpoint

ENDING = "lit_dcem.training.ending.Ending"
BEST = "best.ckpt"


@dataclass(frozen=True)
class Run(Process):
    """One point of the grid, in one phase of a chain if there are chains."""

    options: list[str]
    configs: dict[str, Any]
    """contents, by the paths of their copies, which the options name"""
    before: Run | None = None
    """the phase that must be done before this one"""
    starts: dict[str, str] = field(default_factory=dict)
    """options, and the paths in the folder of the phase before that are their values"""

    @property
    def last(self) -> Path:
        return self.inside("checkpoints/last.ckpt")

    @property
    def best(self) -> Path:
        """The last one if it keeps no best one."""
        return self.inside(f"checkpoints/{BEST}")

    @property
    def ending(self) -> Path:
        """What the training itself says of its end; none if it was cut off."""
        return self.folder / "ending.json"

    def inside(self, path: str) -> Path:
        """A path in the folder of the run itself; to the last checkpoint, in place of a best one that is not kept."""
        whole = self.folder / "version_0" / path
        return whole.with_name("last.ckpt") if whole.name == BEST and not whole.exists() else whole

    def changed(self) -> list[str]:
        """Also the start, if the chain has another phase before this one than when it began."""
        began = self.recorded().get("began_with", {}).values()
        moved = self.before is not None and any(self.before.name not in Path(path).parts for path in began)
        return [*super().changed(), *(["start"] if moved else [])]

    def own_end(self) -> str | None:
        """One of FINISHED, or None if it did not come to its own end."""
        status = read_json(self.ending).get("status")
        return status if status in FINISHED else None

    def checkpoint(self) -> Checkpoint | None:
        """Its last one; None if there is none that can be read."""
        with contextlib.suppress(UsageError):
            return Checkpoint.read(self.last)
        return None

    def begin(self, limit: float | None) -> list[str]:
        """The options, the callback that records its end, and where it begins or resumes."""
        self.ending.unlink(missing_ok=True)
        ending = [f"--trainer.callbacks+={ENDING}", f"--trainer.callbacks.path={self.ending}"]
        more: dict[str, Any] = {}
        if limit is not None and limit < self._own_time():
            more["trainer.max_time"] = as_time(limit)
        begun = self.checkpoint() is not None
        if begun:
            more["ckpt_path"] = str(self.last)
        else:  # killed before the first one, or it is damaged: start over
            shutil.rmtree(self.folder / "version_0", ignore_errors=True)
        starts = self._starts(begun)
        return ["fit", *self.options, *as_options(starts, "--"), *ending, *as_options(more, "--")]

    def ended(self, code: int, limit: float | None) -> str:
        """As it says itself; cut off if it says nothing, or ended by a signal.

        A run that its own ``max_time`` ended is done: out of time is one that the sweep's limit ended before.
        """
        if code:
            return super().ended(code, limit)
        end = self.own_end()
        if end == "out of time" and self._own_time() <= (limit or math.inf):
            end = "done"
        return "cut off" if end is None else "failed" if self.checkpoint() is None else end

    def _own_time(self) -> float:
        """Its ``trainer.max_time`` [s]; infinite if it has none."""
        configs = [config.get("trainer") for config in self.settings["configs"] if isinstance(config, dict)]
        times = [trainer.get("max_time") for trainer in configs if isinstance(trainer, dict)]
        times += [self.settings[part].get("trainer.max_time") for part in ("arguments", "grid")]
        left = [Timer(time).time_remaining() for time in times if time is not None]
        return math.inf if not left or left[-1] is None else left[-1]

    def starts_now(self) -> dict[str, str]:
        """Where it would begin now: options, and the paths that are their values; empty for a first phase."""
        return {option: str(self.before.inside(path)) for option, path in self.starts.items()} if self.before else {}

    def _starts(self, begun: bool) -> dict[str, str]:
        """What it began with, even if the folder was moved since."""
        if self.before is None:
            return {}
        now = self.starts_now()
        starts = self.recorded().get("began_with", now) if begun else now
        self.record(self.recorded()["status"], began_with=starts)
        return starts


@dataclass(frozen=True)
class Evaluation(Process):
    """Episodes of the best checkpoint of a run, episode i in the environment of seed i of `EVALUATION_SEEDS`."""

    run: Run

    @property
    def name(self) -> str:
        return f"{self.run.name}, evaluation"

    @property
    def report(self) -> Path:
        """JSON file of ``lit-dcem evaluate``."""
        return self.folder / "returns.json"

    def returns(self) -> dict[int, float]:
        """By the seed of the environment; none unless it is done."""
        for result in read_json(self.report).get("results", {}).values() if self.is_done() else ():
            return dict(zip(result["env_seeds"], result["returns"], strict=True))
        return {}

    def begin(self, limit: float | None) -> list[str]:
        self.report.unlink(missing_ok=True)
        checkpoint = self.run.best
        self.record(self.recorded()["status"], checkpoint=checkpoint.name)
        episodes = self.settings["evaluation"]["episodes"]
        options = {"checkpoint": str(checkpoint), "episodes": episodes, "env_seed": EVALUATION_SEEDS[0]}
        return ["evaluate", *as_options({**options, "out": str(self.report)}, "--")]

    def ended(self, code: int, limit: float | None) -> str:
        return "done" if code == 0 and self.report.is_file() else super().ended(code, limit)


def as_time(seconds: float) -> str:
    """As ``--trainer.max_time`` takes it."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 1440:02}:{minutes // 60 % 24:02}:{minutes % 60:02}:{seconds:02}"
