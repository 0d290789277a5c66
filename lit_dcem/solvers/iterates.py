"""Losses over all iterates of a solver, and not over its answer alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.solvers.types import Solution


def check_loss_over_iterates(loss_iterations: int, loss_discount: float) -> None:
    """Raise a ValueError for options of a loss over iterates that make no sense."""
    if loss_iterations < 1 or not 0 < loss_discount <= 1:
        rule = "The iterations of a loss must be at least 1 and its discount in (0, 1]"
        raise ValueError(f"{rule}, got {loss_iterations} and {loss_discount}.")


def check_horizon(dim: int, *solvers: nn.Module) -> None:
    """Raise a ValueError for a solver whose horizon does not divide the size of what it searches."""
    for solver in solvers:
        horizon = getattr(solver, "options", {}).get("horizon", 1)
        if dim % horizon:
            raise ValueError(f"horizon of a solver must divide the size of its answers, got {horizon} and {dim}.")


def iterates(solution: Solution) -> Float[Tensor, "iterations batch dim"]:
    """The first mean of a traced solution, and the ones after each iteration."""
    assert solution.trace is not None
    return torch.stack([*(iteration.mean for iteration in solution.trace), solution.mean])


def discounts(count: int, discount: float) -> Float[Tensor, " count"]:
    """Weights of the last iterates that sum to 1, each ``discount`` of the one after it."""
    weights = discount ** torch.arange(count - 1, -1, -1)
    return weights / weights.sum()
