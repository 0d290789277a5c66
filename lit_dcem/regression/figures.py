"""Figures 1, 5 and 6: energy surfaces, learning curves and predictions of energy-based regression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.errors import UsageError
from lit_dcem.regression.data import target
from lit_dcem.regression.module import EnergyRegression
from lit_dcem.solvers.cem import DCEM
from lit_dcem.training.checkpoint import Checkpoint, find_checkpoint
from lit_dcem.training.figure_source import figure
from lit_dcem.training.progress import track

Item = TypeVar("Item")
Seeds = Mapping[str, Sequence[EnergyRegression]]
"""Modules of each method, one a seed."""
Curves = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
"""Validation history of each method, one a seed."""

COLOURS = {"DCEM": "tab:blue", "unrolled GD": "tab:red"}
SHIPPED = ["regression_*.ckpt"]


@figure("1", find=find_checkpoint, shipped=SHIPPED)
@figure("5", find=find_checkpoint, shipped=SHIPPED)
@figure("6", find=find_checkpoint, shipped=SHIPPED)
def from_checkpoints(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 1, 5 or 6, from runs or checkpoints of `EnergyRegression`."""
    methods: dict[str, list[EnergyRegression]] = {}
    curves: dict[str, list[Sequence[Mapping[str, float]]]] = {}
    for path in track(paths, f"figure {number}"):
        checkpoint = Checkpoint.read(path)
        module = checkpoint.module()
        if not isinstance(module, EnergyRegression):
            got = f"{type(module).__name__} in {path}"
            raise UsageError(f"Figure {number} needs runs of EnergyRegression, got {got}.")
        name = "DCEM" if isinstance(module.solver, DCEM) else "unrolled GD"
        methods.setdefault(name, []).append(module)
        curves.setdefault(name, []).append(checkpoint.history if number == "5" else [])
    if number == "5":
        return learning_curves(methods, curves)
    return energy_surfaces(methods) if number == "1" else predictions(methods)


def target_points(count: int) -> tuple[Tensor, Tensor]:
    """Inputs ``[count, 1]`` evenly over [0, 2 pi], and x sin x."""
    x = torch.linspace(0, 2 * math.pi, count).unsqueeze(1)
    return x, target(x)


def energy_surfaces(methods: Seeds) -> Figure:
    """Figure 1: the energy over (x, y) of the first seed of each method; light is low, red is the target."""
    return _side_by_side(methods, draw_surface)


def draw_surface(axis: Axes, module: EnergyRegression) -> None:
    """One panel of figure 1. Each column is scaled to [0, 1], then shown as ``log(. + 1e-6)``."""
    x, y = target_points(200)
    grid = torch.linspace(-7, 7, 281)
    pairs = x.to(_place(module)), grid.expand(len(x), -1).unsqueeze(-1).to(_place(module))
    with torch.no_grad():
        energy = module.energy(*pairs).float().cpu()
    low, high = energy.aminmax(dim=1, keepdim=True)
    height = ((energy - low) / (high - low).clamp_min(1e-12) + 1e-6).log().clamp(-10, 0)
    axis.imshow(height.T.numpy(), origin="lower", extent=(0, 2 * math.pi, -7, 7), aspect="auto", cmap="Greys")
    axis.plot(x.numpy(), y.numpy(), color="tab:red", linewidth=1, label="x sin x")
    axis.set(xlabel="x", ylabel="y")


def learning_curves(methods: Seeds, curves: Curves) -> Figure:
    """Figure 5: error against updates, and against the number of inner iterations after training with 10."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, seeds in methods.items():
        for label, rows in _labelled(name, curves[name]):
            steps, errors = [row["step"] for row in rows], [row["val/mse"] for row in rows]
            left.plot(steps, errors, color=COLOURS[name], label=label, alpha=0.6)
        for label, module in _labelled(name, seeds):
            right.plot(errors_by_iteration(module, 20), color=COLOURS[name], label=label, alpha=0.6)
    left.set(xlabel="updates", ylabel="mean squared error", yscale="log", xscale="log")
    right.set(xlabel="inner iterations", ylabel="mean squared error", yscale="log", xticks=range(0, 21, 5))
    right.axvline(10, color="grey", linewidth=0.8, linestyle="dotted")
    left.legend()
    return figure


def errors_by_iteration(module: EnergyRegression, num_iterations: int) -> list[float]:
    """Mean squared error over the training points after 0 .. num_iterations inner iterations."""
    x, y = target_points(100)
    return (_iterates(module, x, num_iterations) - y).square().mean((1, 2)).tolist()


def predictions(methods: Seeds) -> Figure:
    """Figure 6: predictions after 1 .. 30 inner iterations, red up to 10 (as in training), blue beyond."""
    return _side_by_side(methods, draw_predictions)


def draw_predictions(axis: Axes, module: EnergyRegression) -> None:
    """One panel of figure 6; later iterations are darker."""
    x, y = target_points(200)
    for n, prediction in enumerate(_iterates(module, x, 30)):
        if n > 0:
            colours, share = (colormaps["Reds"], n / 10) if n <= 10 else (colormaps["Blues"], (n - 10) / 20)
            axis.plot(x.numpy(), prediction.numpy(), color=colours(0.2 + 0.7 * share), linewidth=0.8)
    axis.plot(x.numpy(), y.numpy(), color="black", linewidth=1, linestyle="dashed")
    axis.set(xlabel="x", ylabel="y", ylim=(-7, 7))


def _side_by_side(methods: Seeds, draw: Callable[[Axes, EnergyRegression], None]) -> Figure:
    """A panel for the first seed of each method."""
    figure = Figure(figsize=(5 * len(methods), 4), layout="constrained")
    axes = figure.subplots(1, len(methods), squeeze=False)[0]
    for axis, (name, seeds) in zip(axes, methods.items(), strict=True):
        draw(axis, seeds[0])
        axis.set_title(name)
    return figure


def _iterates(module: EnergyRegression, x: Tensor, num_iterations: int) -> Tensor:
    """Predictions after each iteration, on the CPU in the precision of x."""
    with isolate_rng(), torch.no_grad():  # a solver of your own draws from the global generator
        torch.manual_seed(0)
        return module.iterates(x.to(_place(module)), num_iterations).to(x)


def _place(module: EnergyRegression) -> Tensor:
    """A tensor on the device and in the precision of the module."""
    return next(module.energy.parameters())


def _labelled(name: str, items: Sequence[Item]) -> list[tuple[str | None, Item]]:
    """The items with a legend entry at the first one only."""
    return [(name if i == 0 else None, item) for i, item in enumerate(items)]
