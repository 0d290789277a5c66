"""Figure 10: the cost surfaces over latent spaces that are planes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from torch import Tensor

from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.cartpole.module import CartpoleEmbedding
from lit_dcem.cartpole.pca import PCAPlanner
from lit_dcem.cartpole.planners import FullSpacePlanner
from lit_dcem.cartpole.states import validation_states
from lit_dcem.errors import UsageError, require
from lit_dcem.solvers.cem import DCEM
from lit_dcem.training.checkpoint import Checkpoint, find_checkpoint
from lit_dcem.training.figure_source import figure
from lit_dcem.training.progress import track

EMBEDDINGS = ("cartpole_d2_0.ckpt", "cartpole_d2_tau0.1_0.ckpt", "cartpole_d2_tau0_0.ckpt")
"""shipped ones, with decreasing temperatures"""


class Planner(Protocol):
    """Whatever decodes latent vectors ``[*, 2]`` into forces ``[*, H]`` [N] for a state: `CartpoleEmbedding`, a PCA."""

    def decode(self, latents: Tensor, states: Tensor, /) -> Tensor: ...


@figure("10", find=find_checkpoint, shipped=["cartpole_pca.pt", *EMBEDDINGS])
def cost_surfaces_of_files(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 10, from runs or checkpoints of `CartpoleEmbedding`, and ``.pt`` files of a `PCAPlanner`."""
    planners: dict[str, Planner] = {}
    for path in track(paths, f"figure {number}"):
        title, planner = _planner(number, path)
        planners[title if title not in planners else f"{title} ({len(planners) + 1})"] = planner
    return cost_surfaces(planners, validation_states()[:6])


def _planner(number: str, path: Path) -> tuple[str, Planner]:
    """What decodes the latent vectors of a file, and the title of its column."""
    if path.suffix == ".pt":
        return "PCA", PCAPlanner(FullSpacePlanner(DCEM()), weights=str(path))  # with weights it asks no expert
    module = embedding(number, path)
    size = module.decoder.latent_dim
    require(size == 2, f"Figure {number} needs a latent_dim of 2", f"{size} in {path}")
    solver = module.training_solver
    return f"temperature {solver.temperature:g}" if isinstance(solver, DCEM) else type(solver).__name__, module


def embedding(number: str, path: Path) -> CartpoleEmbedding:
    """The module of a checkpoint.

    Raises:
        UsageError: a module of another kind.
    """
    module = Checkpoint.read(path).module()
    if not isinstance(module, CartpoleEmbedding):
        raise UsageError(f"Figure {number} needs runs of CartpoleEmbedding, got {type(module).__name__} in {path}.")
    return module


def cost_surfaces(planners: Mapping[str, Planner], states: Float[Tensor, "states 5"]) -> Figure:
    """Figure 10: the cost over the plane of latent vectors, a row for each initial state; light is cheap.

    The cheapest point of the grid is starred and its cost written into the panel. Panels of a row share their colours.

    Args:
        planners: title of a column, and what decodes its latent vectors.
        states: initial states, in the units of `lit_dcem.cartpole.dynamics`.
    """
    shape = len(states), len(planners)
    figure = Figure(figsize=(1 + 2.4 * shape[1], 0.5 + 2.1 * shape[0]), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False, sharex=True, sharey=True)
    for row, state in zip(axes, states, strict=True):
        costs = [surface(planner, state) for planner in planners.values()]
        norm = colour_norm(costs)
        for axis, cost in zip(row, costs, strict=True):
            draw_surface(axis, cost, norm)
            star(axis, cost)
        row[0].set_ylabel(f"pole at {_degrees(state):.0f}°\n$z_2$")
        colour_bar(figure, row, norm)
    for axis, title in zip(axes[0], planners, strict=True):
        axis.set_title(title)
    for axis in axes[-1]:
        axis.set_xlabel("$z_1$")
    return figure


def latent_grid(points: int = 201) -> Float[Tensor, "z2 z1 2"]:
    """Latent vectors evenly over [-1, 1]^2."""
    line = torch.linspace(-1, 1, points)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


@torch.no_grad()
def surface(planner: Planner, state: Float[Tensor, " 5"], points: int = 201) -> Float[Tensor, "z2 z1"]:
    """Cost C(z; state) of the decoded forces at each point of `latent_grid`, on the CPU."""
    latents = latent_grid(points).flatten(0, 1).to(state)
    return rollout_cost(state, planner.decode(latents, state)).unflatten(0, (points, points)).float().cpu()


def colour_norm(costs: Sequence[Tensor]) -> FuncNorm:
    """One scale for several surfaces, logarithmic in the distance to the least cost: valleys show on any range."""
    low, high = min(float(cost.min()) for cost in costs), max(float(cost.max()) for cost in costs)
    both_ways = (lambda cost: np.log1p(np.maximum(cost - low, 0)), lambda share: np.expm1(share) + low)
    return FuncNorm(both_ways, low, max(high, low + 1e-6))


def draw_surface(axis: Axes, costs: Float[Tensor, "z2 z1"], norm: FuncNorm | None = None) -> None:
    """Costs over [-1, 1]^2; light is cheap."""
    norm = norm or colour_norm([costs])
    edge = 1 + 1 / (len(costs) - 1)  # the outermost points are the middles of their pixels
    extent = (-edge, edge, -edge, edge)
    axis.imshow(costs.numpy(), origin="lower", extent=extent, aspect="auto", cmap="Greys", norm=norm)
    axis.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))


def star(axis: Axes, costs: Float[Tensor, "z2 z1"]) -> None:
    """Mark the cheapest point of a surface, and write its cost into the panel."""
    z1, z2 = latent_grid(len(costs)).flatten(0, 1)[costs.argmin()].tolist()
    axis.plot(z1, z2, marker="*", markersize=11, color="tab:red", markeredgecolor="white", clip_on=False)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    left = z1 > 0  # out of the star's way
    place = (0.04, "left") if left else (0.96, "right")
    axis.text(place[0], 0.05, f"{costs.min():.1f}", transform=axis.transAxes, ha=place[1], fontsize="small", bbox=box)


def colour_bar(figure: Figure, axes: Sequence[Axes], norm: FuncNorm) -> None:
    """To the right of a row, with ticks at even steps of grey."""
    ticks = norm.inverse(np.linspace(0, 1, 5))
    bar = figure.colorbar(ScalarMappable(norm, "Greys"), ax=axes, ticks=ticks, fraction=0.04, pad=0.01)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{round(value)}")
    bar.set_label("cost")


def _degrees(state: Tensor) -> float:
    return math.degrees(math.atan2(state[3].item(), state[2].item()))
