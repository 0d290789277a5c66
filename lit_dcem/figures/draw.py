"""``lit-dcem figure N``: from runs, or from the checkpoints we ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lit_dcem.errors import UsageError
from lit_dcem.experiments.energy_regression import EnergyRegression
from lit_dcem.figures.regression import energy_surfaces, learning_curves, predictions
from lit_dcem.runs import checkpoint_of, history, load_module, read_checkpoint, shipped
from lit_dcem.solvers.cem import DCEM


def draw(number: str, runs: Sequence[str] | None = None, out: str | None = None) -> Path:
    """Draw a figure of the paper into an image file, and return its path.

    Args:
        number: 1, 5 or 6.
        runs: run folders or checkpoints of `EnergyRegression`; the shipped ones if there are none.
        out: image file, of a type that matplotlib writes; ``figureN.png`` if there is none.

    Raises:
        UsageError: a run or file that cannot be used.
    """
    paths = [checkpoint_of(run) for run in runs] if runs else sorted(shipped("checkpoints").glob("regression_*.ckpt"))
    if not paths:
        raise UsageError(f"A figure needs --run or shipped checkpoints, got none in {shipped('checkpoints')}.")
    figure = _figure(number, paths)
    target = Path(out or f"figure{number}.png")
    if target.suffix.lstrip(".") not in figure.canvas.get_supported_filetypes():
        raise UsageError(f"--out must end like an image file (.png, .pdf, .svg), got {target}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target


def _figure(number: str, paths: Sequence[Path]) -> Figure:
    methods: dict[str, list[EnergyRegression]] = {}
    paths_of: dict[str, list[Path]] = {}
    for path in paths:
        module = load_module(path)
        if not isinstance(module, EnergyRegression):
            raise UsageError(f"Figure {number} needs runs of EnergyRegression, got {type(module).__name__} in {path}.")
        name = "DCEM" if isinstance(module.solver, DCEM) else "unrolled GD"
        methods.setdefault(name, []).append(module)
        paths_of.setdefault(name, []).append(path)
    if number == "1":
        return energy_surfaces(methods)
    if number == "6":
        return predictions(methods)
    return learning_curves(methods, {name: [history(read_checkpoint(p)) for p in ps] for name, ps in paths_of.items()})
