"""Figure 2: the iterations of searches for the best forces, over the forces themselves and over a latent space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from lit_dcem.cartpole.dynamics import MAX_FORCE
from lit_dcem.cartpole.figures.surfaces import EMBEDDINGS, colour_bar, colour_norm, draw_surface, embedding, surface
from lit_dcem.cartpole.module import CartpoleEmbedding
from lit_dcem.cartpole.planners import FullSpacePlanner
from lit_dcem.cartpole.states import validation_states
from lit_dcem.embedding.drawing import draw_sequences
from lit_dcem.solvers.cem import DCEM
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Iteration, Solution
from lit_dcem.training.checkpoint import find_checkpoint
from lit_dcem.training.figure_source import figure
from lit_dcem.training.progress import track

STATE = 1
"""of the validation states: where the searches begin"""
SHOWN = (0, 3, 6, 9)
"""iterations, counted from 0"""
FULL_SPACE = DCEM(
    num_candidates=1000, num_elites=10, num_iterations=10, temperature=0.0, lower=-MAX_FORCE, upper=MAX_FORCE
)
"""CEM over the forces themselves [N]"""


@figure("2", find=find_checkpoint, shipped=EMBEDDINGS[:1], single=True)
def search_iterations_of_a_checkpoint(number: str, paths: Sequence[Path]) -> Figure:
    """Figure 2, from one run or checkpoint of `CartpoleEmbedding`."""
    return search_iterations(embedding(number, paths[0]), validation_states()[STATE])


def search_iterations(
    module: CartpoleEmbedding, state: Float[Tensor, " 5"], full_space_solver: Solver = FULL_SPACE
) -> Figure:
    """Figure 2: the candidates of iterations 0, 3, 6 and 9 of two searches for the best forces from one state.

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
    for column, number in enumerate(track(SHOWN, "iterations")):
        axes[0, column].set_title(f"iteration {number}")
        draw_forces(axes[0, column], full_space[number].candidates[0, :100])
        draw_forces(axes[1, column], decoded(module, latent_space[number], state))
        if costs is not None:
            draw_search(axes[2, column], costs, latent_space[number])
    _label(axes[0], "step", "CEM over forces\nforce [N]")
    _label(axes[1], "step", "over z, decoded\nforce [N]")
    if costs is not None:
        _label(axes[2], "$z_1$", "cost over z\n$z_2$")
        colour_bar(figure, axes[2], colour_norm([costs]))
    return figure


def latent_search(module: CartpoleEmbedding, state: Float[Tensor, " 5"]) -> tuple[Iteration, ...]:
    """10 iterations of the search of planning, in the paper's size for DCEM: 100 candidates, 10 elites."""
    solver = module.solver
    if isinstance(solver, DCEM):
        solver = solver.replace(num_candidates=100, num_elites=10, num_kept=0, grad_iterations=None, num_iterations=10)
    return _iterations(lambda: module.solve(state.unsqueeze(0), solver.traced(10)))


def _iterations(solve: Callable[[], Solution]) -> tuple[Iteration, ...]:
    """Iterations of a traced solution, with the same draws every time and without a graph."""
    with isolate_rng(), torch.no_grad():  # a solver of your own draws from the global generator
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


def _label(axes: Sequence[Axes], xlabel: str, ylabel: str) -> None:
    """Labels of a row whose panels share their vertical axis."""
    axes[0].set_ylabel(ylabel)
    for axis in axes:
        axis.set_xlabel(xlabel)
    for axis in axes[1:]:
        axis.set_yticklabels([])
