"""How bad input is typed and judged; its kinds are in `bad_configs` and `bad_commands`, which add them to `KINDS`."""

from __future__ import annotations

import contextlib
import io
import re
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.bad_input_files import CONFIGS

from lit_dcem.cli.main import main

# Experiment: the configs, the later ones winning, of a run that takes a second or two.
EXPERIMENTS = {
    "regression": ("regression", "debug"),
    "regression_gd": ("regression_gd", "debug"),
    "cartpole": ("cartpole", "debug"),
    "phase1": ("swingup_phase1", "debug"),
    "phase2": ("swingup_phase2", "debug"),
    "phase3": ("swingup_phase3", "debug"),
    "joint": ("joint", "debug"),
}
STARTS = {"phase2": "swingup_phase1_1", "phase3": "swingup_phase2_1"}
"""shipped checkpoints that later phases start from"""
QUICK = [
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *("--trainer.max_epochs=1", "--trainer.limit_train_batches=2"),
]


@dataclass(frozen=True)
class Case:
    """What is typed, and how many bytes a file may have while it runs (a full disk is a limit of few)."""

    arguments: list[str]
    file_limit: int | None = None

    @property
    def name(self) -> str:
        limit = "" if self.file_limit is None else f" (files of {self.file_limit} bytes at most)"
        return " ".join(each.replace(f"{CONFIGS}/", "") for each in self.arguments) + limit


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int | None
    stderr: str
    error: str = ""
    """the traceback's last line, if it ended in one"""
    left: list[str] = field(default_factory=list)
    """run folders that it left"""

    @property
    def complaint(self) -> str:
        """What is wrong with it; empty if it is exit code 2 and one readable sentence."""
        sentences = [line for line in self.stderr.splitlines() if line.startswith("lit-dcem: ")]
        if self.error:
            return f"traceback: {self.error}"
        if "Traceback (most recent call last)" in self.stderr:
            return f"traceback printed: {self.stderr.strip().splitlines()[-1]}"
        if self.code != 2:
            return f"exit code {self.code}"
        if len(sentences) != 1 or self.stderr.strip().splitlines()[-1] != sentences[0]:
            return f"not one sentence: {self.stderr.strip()[-300:]}"
        if not sentences[0].endswith(".") or UNREADABLE.search(sentences[0]) or len(sentences[0]) > 400:
            return f"not readable: {sentences[0]}"
        return f"left {', '.join(self.left)}" if self.left else ""


UNREADABLE = re.compile(r"<class |object at 0x|Namespace\(|Parser key|either not accessible|\w+Error\(|:\.$")
Kind = Callable[[], Iterator[Case]]
SECONDS = 30.0
"""of the processor, which no refusal takes"""
KINDS: dict[str, tuple[Kind, int]] = {}
"""of bad input: its cases, and how many of them are tried in the fast tests"""


def kind(fast: int) -> Callable[[Kind], Kind]:
    def add(cases: Kind) -> Kind:
        KINDS[cases.__name__] = cases, fast
        return cases

    return add


def spread(cases: list[Case], count: int) -> list[Case]:
    """So many of them, evenly spread, the first one always."""
    return [cases[index * len(cases) // min(count, len(cases))] for index in range(min(count, len(cases)))]


def attempt(case: Case) -> Outcome:
    """Run the command here, in the current folder, as the command line would."""
    stderr, code, error, before = io.StringIO(), 0, "", set(Path().rglob("version_*"))
    streams = contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO())
    with streams[0], streams[1], warnings.catch_warnings(), files_of(case.file_limit), at_most(SECONDS):
        warnings.simplefilter("ignore")
        try:
            main(case.arguments)
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        except Endless:
            error = "endless"
        except Exception as raised:  # what a user would see as a traceback
            error = traceback.format_exception_only(raised)[-1].strip().replace("\n", " ")[:300]
    left = sorted(str(path) for path in set(Path().rglob("version_*")) - before)
    return Outcome(code, stderr.getvalue(), error, left)


class Endless(BaseException):
    """A command took more of the processor's time than any refusal."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End what goes on forever; seconds of this process alone, so that a busy machine does not matter."""

    def end(*_: Any) -> None:
        raise Endless

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def files_of(limit: int | None) -> Iterator[None]:
    """Writing beyond so many bytes of a file raises, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fit(experiment: str, *options: str, command: str = "fit") -> Case:
    """A command of the Trainer with an experiment's configs, in debug sizes."""
    configs = [f"--config={CONFIGS / name}.yaml" for name in EXPERIMENTS[experiment]]
    start = [f"--model.init_args.start={STARTS[experiment]}"] if experiment in STARTS else []
    replay = ["--data.init_args.initial_replay=null"] if experiment == "phase2" else []
    return Case([command, *configs, *start, *replay, *QUICK, *options])
