"""Figures 2, 7 and 10: what decoders of cartpole forces put out, and the cost surfaces over their latent spaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.cartpole.dynamics import MAX_FORCE, rollout_cost
from lit_dcem.cartpole.module import CartpoleEmbedding
from lit_dcem.cartpole.planners import FullSpacePlanner
from lit_dcem.embedding.decoder import ActionDecoder
from lit_dcem.embedding.drawing import draw_sequences
from lit_dcem.solvers.cem import DCEM
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Iteration, Solution

SHOWN = (0, 3, 6, 9)
"""iterations of figure 2, counted from 0"""
FULL_SPACE = DCEM(
    num_candidates=1000, num_elites=10, num_iterations=10, temperature=0.0, lower=-MAX_FORCE, upper=MAX_FORCE
)
"""CEM over the forces themselves [N]"""
SCALES = (1, 2, 4, 6)
"""alpha of figure 7: what the initial weights are multiplied by"""
ROWS: tuple[tuple[Literal["elu", "relu", "tanh"], str], ...] = (("elu", "ELU"), ("relu", "ReLU"), ("tanh", "tanh"))
"""activations of figure 7, and their names"""


class Planner(Protocol):
    """Whatever decodes latent vectors ``[*, 2]`` into forces ``[*, H]`` [N] for a state: `CartpoleEmbedding`, a PCA."""

    def decode(self, latents: Tensor, states: Tensor, /) -> Tensor: ...


def search_iterations(
    module: CartpoleEmbedding, state: Float[Tensor, " 5"], full_space_solver: Solver = FULL_SPACE
) -> Figure:
    """Figure 2: the candidates of iterations 0, 3, 6 and 9 of two searches for the best forces from one state on.

    Row 1 shows 100 of the candidates of CEM over the forces themselves, row 2 the decoded candidates of the
    search of the latent space, and row 3, if that is a plane, these candidates on the cost surface, where light is
    cheap. The latent search has the temperature that the module plans with: at the paper's 1 it is DCEM, at 0 CEM.

    Args:
        module: trained; its solver gives the temperature and the bounds of the latent search.
        state: initial state, in the units of `lit_dcem.cartpole.dynamics`.
        full_space_solver: searches the forces, of 10 iterations or more.
    """
    planner = FullSpacePlanner(full_space_solver.traced(), module.decoder.horizon)
    full_space, latent_space = _iterations(lambda: planner.solve(state.unsqueeze(0))), latent_search(module, state)
    costs = surface(module, state) if module.decoder.latent_dim == 2 else None
    figure = Figure(figsize=(10, 4.7 if costs is None else 7), layout="constrained")
    axes = figure.subplots(2 if costs is None else 3, len(SHOWN))
    for column, number in enumerate(SHOWN):
        axes[0, column].set_title(f"iteration {number}")
        draw_forces(axes[0, column], full_space[number].candidates[0, :100])
        draw_forces(axes[1, column], decoded(module, latent_space[number], state))
        if costs is not None:
            draw_search(axes[2, column], costs, latent_space[number])
    _label(axes[0], "step", "CEM over forces\nforce [N]")
    _label(axes[1], "step", "over z, decoded\nforce [N]")
    if costs is not None:
        _label(axes[2], "$z_1$", "cost over z\n$z_2$")
        _colour_bar(figure, axes[2], colour_norm([costs]))
    return figure


def latent_search(module: CartpoleEmbedding, state: Float[Tensor, " 5"]) -> tuple[Iteration, ...]:
    """10 iterations of the search of planning, in the paper's size for DCEM: 100 candidates, 10 elites."""
    solver = module.solver
    if isinstance(solver, DCEM):
        solver = solver.replace(num_candidates=100, num_elites=10, num_kept=0, grad_iterations=None, num_iterations=10)
    return _iterations(lambda: module.solve(state.unsqueeze(0), solver.traced(10)))


def _iterations(solve: Callable[[], Solution]) -> tuple[Iteration, ...]:
    """Iterations of a traced solution, with the same draws every time and without a graph."""
    with isolate_rng(), torch.no_grad():
        torch.manual_seed(0)
        trace = solve().trace
    assert trace is not None
    return trace


@torch.no_grad()
def decoded(
    module: CartpoleEmbedding, iteration: Iteration, state: Float[Tensor, " 5"]
) -> Float[Tensor, "samples horizon"]:
    """Forces [N] of the candidates for a state, the only one of the search."""
    return module.decode(iteration.candidates[0], state)


def draw_forces(axis: Axes, forces: Float[Tensor, "samples horizon"]) -> None:
    """Force sequences [N] against the step, as transparent lines."""
    draw_sequences(axis, forces)
    axis.set_ylim(-1.05 * MAX_FORCE, 1.05 * MAX_FORCE)


def draw_search(axis: Axes, costs: Float[Tensor, "z2 z1"], iteration: Iteration) -> None:
    """Candidates of a search for the first state, on the cost surface over the plane they are in."""
    draw_surface(axis, costs)
    z = iteration.candidates[0].float().cpu().numpy()
    axis.scatter(z[:, 0], z[:, 1], s=6, color="tab:red", alpha=0.6, linewidths=0)


def initial_outputs() -> Figure:
    """Figure 7: 100 outputs of an untrained decoder without biases, by activation and scale of the initial weights.

    The latent vectors are draws from N(0, I) in 2 dimensions (the paper does not give their number), the 20 outputs
    are squashed to [0, 1].
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(len(ROWS), len(SCALES), sharex=True, sharey=True)
    for row, (activation, name) in zip(axes, ROWS, strict=True):
        for axis, scale in zip(row, SCALES, strict=True):
            draw_sequences(axis, _untrained_outputs(activation, scale))
        row[0].set(ylabel=f"{name}\noutput", ylim=(0, 1))
    for axis, scale in zip(axes[0], SCALES, strict=True):
        axis.set_title(f"$\\alpha$ = {scale}")
    for axis in axes[-1]:
        axis.set_xlabel("output dimension")
    return figure


def _untrained_outputs(activation: Literal["elu", "relu", "tanh"], scale: float) -> Float[Tensor, "100 20"]:
    with isolate_rng(), torch.no_grad():
        torch.manual_seed(0)  # the same draws in every panel
        decoder = ActionDecoder(2, 20, activation=activation, init_scale=scale, bias=False, lower=0, upper=1)
        return decoder(torch.randn(100, 2)).squeeze(-1)


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
        _colour_bar(figure, row, norm)
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


def _degrees(state: Tensor) -> float:
    return math.degrees(math.atan2(state[3].item(), state[2].item()))


def _label(axes: Sequence[Axes], xlabel: str, ylabel: str) -> None:
    """Labels of a row whose panels share their vertical axis."""
    axes[0].set_ylabel(ylabel)
    for axis in axes:
        axis.set_xlabel(xlabel)
    for axis in axes[1:]:
        axis.set_yticklabels([])


def _colour_bar(figure: Figure, axes: Sequence[Axes], norm: FuncNorm) -> None:
    """Beside a row; ticks at even steps of grey."""
    ticks = norm.inverse(np.linspace(0, 1, 5))
    bar = figure.colorbar(ScalarMappable(norm, "Greys"), ax=axes, ticks=ticks, fraction=0.04, pad=0.01)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{round(value)}")
    bar.set_label("cost")
