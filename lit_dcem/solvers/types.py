"""Types that solvers take and return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING or find_spec("numpy"):
    from numpy import ndarray
else:  # optional for torch and for us
    ndarray = Tensor

Objective = Callable[[Tensor], Tensor]
"""``objective(candidates [B, N, D]) -> values [B, N]``, to be minimised; row b holds the candidates of problem b."""

Bound = float | Sequence[float] | ndarray | Tensor | None
"""bound of points ``[B, D]``: a number, or numbers that broadcast against the points; None for no bound"""


@dataclass(frozen=True)
class Iteration:
    """One iteration of a solver: its sampling distribution, the candidates, and their values and weights."""

    mean: Float[Tensor, "batch dim"]
    """mean of the sampling distribution, before the refit"""
    std: Float[Tensor, "batch dim"]
    """standard deviation of the sampling distribution, before the refit"""
    candidates: Float[Tensor, "batch candidates dim"]
    values: Float[Tensor, "batch candidates"]
    """NaN or infinite for a broken candidate; NaN if the candidate itself is not finite"""
    weights: Float[Tensor, "batch candidates"]
    """weight of each candidate in the refit: 0 or 1 at ``temperature=0``, 0 for a broken one

    The weights sum to ``num_elites``, or to the number of candidates that are not broken if there are fewer.
    """


@dataclass(frozen=True)
class Solution:
    """The minimiser that a solver found for each of the B problems of a batch.

    If `dcem` finds no finite value for a problem, that row is NaN in every field but the trace.
    """

    mean: Float[Tensor, "batch dim"]
    """the answer: the mean of the last distribution, or the last iterate of a gradient method"""
    std: Float[Tensor, "batch dim"]
    """standard deviation of the last distribution; zero for a gradient method"""
    value: Float[Tensor, " batch"]
    """objective at ``mean``"""
    best: Float[Tensor, "batch dim"]
    """the point of least value among all candidates and ``mean``"""
    best_value: Float[Tensor, " batch"]
    """objective at ``best``, as evaluated during the search"""
    trace: tuple[Iteration, ...] | None = None
    """every iteration, if the solver was asked for a trace"""

    @property
    def iterates(self) -> Float[Tensor, "iterates batch dim"]:
        """The first mean and the mean after each iteration, the answer last.

        Raises:
            ValueError: a solution without a trace.
        """
        if self.trace is None:
            raise ValueError(
                "The iterates of a solution need a solver with trace=True, got a solution without a trace."
            )
        return torch.stack([*(iteration.mean for iteration in self.trace), self.mean])
