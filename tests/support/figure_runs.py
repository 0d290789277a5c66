"""Event files and tables of curves like those of runs."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from lit_dcem.training.curves import Curves

LOSSES = ("train/observation", "train/reward", "train/kl")
Points = Mapping[int, float]
"""Values by update."""


def write(folder: Path, tags: Mapping[str, Points], start: float = 0.0) -> Path:
    """One more event file in a folder, written a second a point from ``start`` on."""
    with SummaryWriter(str(folder)) as writer:
        for tag, points in tags.items():
            for i, (step, value) in enumerate(points.items()):
                writer.add_scalar(tag, value, step, walltime=start + i)
    return folder


def write_curves(folder: Path, tags: Mapping[str, Points], seed: int = 0) -> Path:
    """``curves.csv`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = Curves(folder, seed)
    for tag, points in tags.items():
        for step, value in points.items():
            curves.log_metrics({tag: value}, step)
    curves.finalize("success")
    return folder


def logged(last: int = 100, value: float = 1.0) -> dict[str, Points]:
    """What a run logs: every 10 updates until the last, 40 simulator steps an update after 1000."""
    steps = range(10, last + 1, 10)
    curves = {tag: dict.fromkeys(steps, value) for tag in (*LOSSES, "train/return")}
    counts = {step: 1000.0 + 40 * step for step in steps}
    returns = {step: returned for step, returned in {25: 2 * value, 75: 3 * value}.items() if step <= last}
    return {**curves, "train/simulator_steps": counts, "val/return": returns}
