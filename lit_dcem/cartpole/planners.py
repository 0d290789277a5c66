"""Planning the cartpole's forces themselves: the full-space expert of section 5.2 of the paper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.solvers.cem import DCEM
from lit_dcem.solvers.types import Solution


class CartpolePlanner(nn.Module, ABC):
    """Maps states to forces. What a config of ``lit-dcem evaluate`` names is a subclass."""

    @abstractmethod
    def forward(self, states: Float[Tensor, "batch 5"]) -> Float[Tensor, "batch horizon"]:
        """Planned forces [N] from each state on."""


class FullSpacePlanner(CartpolePlanner):
    """Searches the H forces for the cheapest rollout, from zero mean; at ``temperature: 0`` by CEM, as in the paper.

    Args:
        solver: searches.
        horizon: H, forces of a plan, one a time step (paper: 20).
        initial_std: standard deviation of the first candidates [N].
        answer: plan with the last "mean" of the search (paper), or the "best" point it met.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        solver: DCEM,
        horizon: int = 20,
        initial_std: float = 100.0,
        answer: Literal["mean", "best"] = "mean",
    ) -> None:
        super().__init__()
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {horizon}.")
        if not 0 < initial_std < float("inf"):
            raise ValueError(f"initial_std must be positive and finite, got {initial_std}.")
        self.solver = solver
        self.horizon = horizon
        self.initial_std = initial_std
        self.answer = answer

    def forward(
        self, states: Float[Tensor, "batch 5"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch horizon"]:
        """Planned forces [N] from each state on; noise comes from the generator, or the global one if none is given."""
        solution = self.solve(states, generator)
        return solution.best if self.answer == "best" else solution.mean

    @torch.no_grad()
    def solve(self, states: Float[Tensor, "batch 5"], generator: torch.Generator | None = None) -> Solution:
        """Search the forces for each state."""
        solver = self.solver if generator is None else self.solver.replace(generator=generator)
        mean = states.new_zeros(len(states), self.horizon)
        std = torch.full_like(mean, self.initial_std)
        return solver(lambda forces: rollout_cost(states, forces), mean, std)
