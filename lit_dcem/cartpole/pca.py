"""A linear latent space of the cartpole's forces: the PCA that section 5.2 of the paper compares its embedding with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.cartpole.planners import CartpolePlanner, FullSpacePlanner
from lit_dcem.cartpole.states import initial_states
from lit_dcem.errors import UsageError
from lit_dcem.files.checkpoint import read_file
from lit_dcem.training.progress import track

MAX_POINTS = 1_000_000
"""most points of a grid, whose forces take 80 MB"""
CHUNK = 250
"""states that the expert solves at once; it stores every candidate of every iteration, 3,000 to 10,000 per state"""


class PCAPlanner(CartpolePlanner):
    r"""Plans by a grid search over the box that holds the principal scores of an expert's solutions.

    With the middle c of the box, half its widths s, and the d components as rows of W:

    .. math:: \hat z = \arg\min_{z \in \mathrm{grid}} C\left(c + (z \odot s) W\right)

    The PCA is fitted on first use (a minute for 10,000 solutions of the paper's expert), or read from a file:
    ``torch.save(planner.state_dict(), path)`` writes one. Planning itself is deterministic.

    Args:
        expert: its solutions are the data of the PCA.
        latent_dim: d, number of principal components.
        num_solutions: number of initial states that the expert solves for the fit (paper: 10,000).
        grid_size: number of grid points along each component.
        seed: of the states and of the expert's noise in the fit.
        weights: file with a ``state_dict`` to load instead of fitting.

    Raises:
        ValueError: a size out of range, or a grid of more than a million points.
        UsageError: a file that does not hold the ``state_dict`` of such a planner.
    """

    centre: Tensor
    """forces [N] of the latent vector 0, ``[H]``: the middle of the box"""
    components: Tensor
    """orthonormal directions in the space of forces, ``[d, H]``, in order of decreasing variance"""
    scale: Tensor
    """half the width of the box along each component [N], ``[d]``; NaN before the fit"""

    def __init__(
        self,
        expert: FullSpacePlanner,
        latent_dim: int = 2,
        num_solutions: int = 10_000,
        grid_size: int = 200,
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        _check(expert.horizon, latent_dim, num_solutions, grid_size)
        self.expert = expert
        self.num_solutions = num_solutions
        self.grid_size = grid_size
        self.seed = seed
        self.register_buffer("centre", torch.zeros(expert.horizon))
        self.register_buffer("components", torch.zeros(latent_dim, expert.horizon))
        self.register_buffer("scale", torch.full((latent_dim,), torch.nan))
        if weights is not None:
            self._load(weights)

    @property
    def num_trajectories(self) -> int:
        """Rollouts of a plan: the points of the grid."""
        return self.grid_size ** len(self.scale)

    @torch.no_grad()
    def forward(self, states: Float[Tensor, "batch 5"]) -> Float[Tensor, "batch horizon"]:
        """The forces [N] of the cheapest point of the grid for each state."""
        forces = self.decode(self.grid())
        # One state at a time: a grid keeps the machine busy, and the grids of many states would not fit into memory.
        cheapest = [rollout_cost(state, forces).argmin() for state in states]
        return forces[torch.stack(cheapest)]

    def decode(
        self, latents: Float[Tensor, "*batch latent_dim"], states: Float[Tensor, "*some_batch 5"] | None = None
    ) -> Float[Tensor, "*batch horizon"]:
        """Force sequences [N] of latent vectors, of which [-1, 1]^d covers the expert's solutions, from any state."""
        if not self.is_fitted:
            self.fit()
        return self.centre + (latents * self.scale) @ self.components

    def grid(self) -> Float[Tensor, "points latent_dim"]:
        """Evenly spaced latent vectors over [-1, 1]^d, the first component slowest."""
        axis = torch.linspace(-1, 1, self.grid_size, dtype=self.scale.dtype, device=self.scale.device)
        return torch.cartesian_prod(*[axis] * len(self.scale)).view(-1, len(self.scale))

    @property
    def is_fitted(self) -> bool:
        return bool(self.scale.isfinite().all())

    @torch.no_grad()
    def fit(self) -> None:
        """Solve ``num_solutions`` states by the expert, and take the principal components of the solutions."""
        states = initial_states(self.num_solutions, torch.Generator().manual_seed(self.seed)).to(self.centre)
        generator = torch.Generator(states.device).manual_seed(self.seed)
        self.fit_to(
            torch.cat(
                [self.expert(chunk, generator) for chunk in track(states.split(CHUNK), "solutions of the expert")]
            )
        )

    @torch.no_grad()
    def fit_to(self, solutions: Float[Tensor, "solutions horizon"]) -> None:
        """Take the principal components of force sequences [N], and the box of their scores."""
        mean = solutions.mean(0)
        _, _, directions = torch.linalg.svd(solutions - mean, full_matrices=False)
        components = directions[: len(self.scale)]
        low, high = ((solutions - mean) @ components.T).aminmax(dim=0)
        self.centre.copy_(mean + (low + high) / 2 @ components)
        self.components.copy_(components)
        self.scale.copy_((high - low) / 2)

    def _load(self, path: str) -> None:
        try:
            self.load_state_dict(read_file(path))
        except Exception as error:  # loading something else raises one of half a dozen types
            shapes = f"centre, components and scale for {len(self.scale)} components of {len(self.centre)} forces"
            reason = str(error).rstrip(".") if isinstance(error, UsageError) else type(error).__name__
            raise UsageError(f"weights must be a file with {shapes}, got {path} ({reason}).") from error


def _check(horizon: int, latent_dim: int, num_solutions: int, grid_size: int) -> None:
    if not 1 <= latent_dim <= horizon:
        raise ValueError(f"latent_dim must be between 1 and the expert's horizon, got {latent_dim} and {horizon}.")
    if num_solutions <= latent_dim:
        raise ValueError(f"num_solutions must be above latent_dim, got {num_solutions} and {latent_dim}.")
    if grid_size < 2 or grid_size**latent_dim > MAX_POINTS:
        got = f"{grid_size} for {latent_dim} components"
        raise ValueError(f"grid_size must be at least 2 and its power latent_dim at most {MAX_POINTS:,}, got {got}.")
