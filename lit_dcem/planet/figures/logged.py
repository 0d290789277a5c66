"""What runs of PlaNet have logged: read from their CSV files, or from the TensorBoard events of earlier ones."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from lit_dcem.errors import UsageError
from lit_dcem.training.curves import FILE, Points, read_curves
from lit_dcem.training.run_folder import folder_of, newest_run

Curve = tuple[ndarray, ndarray]
"""thousands of simulator steps, or PPO steps, in order, and values there: both ``[N]``"""
Run = Mapping[str, Curve]
"""a curve for each tag of `PANELS`; none for the return of training where no episode has ended yet"""

PANELS = {
    "episode return": {"train/return": "training", "val/return": "evaluation"},
    "observation loss": {"train/observation": "training"},
    "reward loss": {"train/reward": "training"},
    "KL": {"train/kl": "training"},
}
"""titles of the panels: what they show, by tag"""
COUNT, EVALUATED = "train/simulator_steps", "val/simulator_steps"
RETURNS = ("train/return", "val/return")
LATER = "train/return"
"""what a run need not have logged: the episodes of training may be longer than the run"""
EVENTS = "events.out.tfevents."
"""beginning of the names of TensorBoard's files"""


def logs_of(run: str | Path) -> Path:
    """The file or folder that a run's curves are read from.

    Args:
        run: a folder with ``curves.csv`` or ``events.out.tfevents.*`` files, such a file, or a folder of runs, such as
            ``runs/phase1``, which stands for the newest.

    Raises:
        UsageError: there are none.
    """
    run = Path(run)
    if (newest := newest_run(run)) is not None:
        run = folder_of(newest)
    if (run / FILE).is_file():
        return run / FILE
    if any(run.glob(f"{EVENTS}*")) or (run.is_file() and ("tfevents" in run.name or run.suffix == ".csv")):
        return run
    rule = f"A run must be a folder with {FILE} or {EVENTS}* files, or a *.csv or *.tfevents file"
    raise UsageError(f"{rule}, got {run}.")


def name_of(path: Path) -> str:
    """What a run shares with its other seeds: ``a`` for ``a/version_0``, for a file in there, and for ``a_0.csv``.

    A folder that is no ``version_N`` goes by its own name; runs of a sweep have their seeds in it, or go by the folder
    of the sweep if they have nothing else, and are named ``walker-walk, phase 2`` where they are phases.
    """
    path = path.resolve()
    if path.is_file() and path.name != FILE and not path.name.startswith(EVENTS):
        return re.sub(r"_\d+$", "", path.name.partition(".tfevents")[0].removesuffix(".csv"))
    folder = path.parent if path.is_file() else path
    folder = folder.parent if folder.name.startswith("version_") else folder
    name = re.sub(r"(^|,)seed(_everything)?=\d+(?=,|$)", "", folder.name).lstrip(",") or folder.parent.name
    return re.sub(r"^task=(.+),phase=([^,]+)", r"\1, phase \2", name)


def read_run(path: Path, number: str = "11") -> Run:
    """The curves of a run of phase 1 or 2 against thousands of simulator steps, its training curves as logged.

    Those of a run that was resumed are put together.

    Args:
        path: see `logs_of`.
        number: of the figure, for what is raised.

    Raises:
        UsageError: a tag without a finite value, other than `LATER`.
    """
    tags = [tag for panel in PANELS.values() for tag in panel]
    curves = _read(path, number, [COUNT, *tags])
    return {tag: (steps / 1000, values) for tag, (steps, values) in curves.items()}


def read_ppo_run(path: Path) -> Curve:
    """Evaluation return of a run of phase 3 against PPO steps; for the rest see `read_run`."""
    return _read(path, "13", ["val/ppo_steps", "val/return"])["val/return"]


def _read(path: Path, number: str, tags: Sequence[str]) -> dict[str, Curve]:
    """Curves of all tags but the first, against what the first one counts."""
    logged = _table(path) if path.suffix == ".csv" else _events(path)
    curves = {tag: _merged(logged(tag)) for tag in tags}
    for tag, (updates, _) in curves.items():
        if not len(updates) and tag != LATER:
            raise UsageError(f"Figure {number} needs runs that logged {tag}, got none in {path}.")
    updates, counts = curves.pop(tags[0])
    counted = _counted(_merged(logged(EVALUATED))) if tags[0] == COUNT else []
    return {
        tag: (at if tag in counted else np.interp(at, updates, counts), values)
        for tag, (at, values) in curves.items()
        if len(at)
    }


def _table(path: Path) -> Callable[[str], Points]:
    curves, none = read_curves(path), Points(np.zeros(0), np.zeros(0))
    return lambda tag: curves.get(tag, none)


def _events(path: Path) -> Callable[[str], Points]:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(path), size_guidance={SCALARS: 0}, purge_orphaned_data=False).Reload()
    logged = events.Tags()[SCALARS]

    def points(tag: str) -> Points:
        found = sorted(events.Scalars(tag) if tag in logged else [], key=lambda event: (event.wall_time, event.step))
        return Points(*np.array([(event.step, event.value) for event in found], dtype=float).reshape(-1, 2).T)

    return points


def _counted(evaluated: Curve) -> Sequence[str]:
    """The tags that were logged against simulator steps, which early runs did not do."""
    at, counts = evaluated
    return RETURNS if len(at) and np.array_equal(at, counts) else []


def _merged(points: Points) -> Curve:
    """Updates and values of a run without those that it wrote again after it was resumed."""
    kept, least = [], math.inf
    for step, value in zip(points.steps[::-1], points.values[::-1], strict=True):
        if step < least:
            kept.append((step, value))
            least = step
    steps, values = np.array(kept[::-1], dtype=float).reshape(-1, 2).T
    finite = np.isfinite(values)
    return steps[finite], values[finite]
