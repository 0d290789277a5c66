"""Planning the cartpole's forces themselves: the full-space expert of section 5.2 of the paper."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.solvers.search import Answer, Search
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Solution


class CartpolePlanner(nn.Module, ABC):
    """Maps states to forces. Subclass it for a planner that a config of ``lit-dcem evaluate`` can name."""

    @abstractmethod
    def forward(self, states: Float[Tensor, "batch 5"]) -> Float[Tensor, "batch horizon"]:
        """Planned forces [N] from each state on."""

    @property
    def num_trajectories(self) -> int | None:
        """Rollouts behind a plan; None if unknown."""
        return None


class FullSpacePlanner(CartpolePlanner):
    r"""Searches the H forces for the cheapest rollout, from zero mean; at ``temperature: 0`` by CEM, as in the paper.

    .. math:: \hat u = \arg\min_u \sum_{t=0}^{H-1} \left(0.1\, x_t^2 - \cos \theta_t + 10^{-5} u_t^2\right)

    Args:
        solver: searches the forces.
        horizon: H, forces of a plan, one per time step (paper: 20).
        initial_std: standard deviation of the first candidates [N].
        answer: plan with the last "mean" of the search (paper), or the "best" point it evaluated.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        solver: Solver,
        horizon: int = 20,
        initial_std: float = 100.0,
        answer: Answer = "mean",
    ) -> None:
        super().__init__()
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {horizon}.")
        self.solver = solver
        self.search = Search(solver, initial_std, answer)
        self.horizon = horizon

    @property
    def num_trajectories(self) -> int | None:
        """Rollouts behind a plan: the candidates of its search."""
        return self.search.num_evaluations

    def forward(
        self, states: Float[Tensor, "batch 5"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch horizon"]:
        """Planned forces [N] from each state on; noise comes from ``generator``, by default the global one."""
        return self.search.answer_of(self.solve(states, generator))

    @torch.no_grad()
    def solve(self, states: Float[Tensor, "batch 5"], generator: torch.Generator | None = None) -> Solution:
        """Search the forces for each state."""
        search = self.search
        if generator is not None:
            search = search.with_solver(search.solver.with_generator(generator))
        return search.solve(lambda forces: rollout_cost(states, forces), states, self.horizon)
