"""Types that solvers take and return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
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

    mean: Float[Tensor, "*batch dim"]
    """mean of the sampling distribution, before the refit"""
    std: Float[Tensor, "*batch dim"]
    """standard deviation of the sampling distribution, before the refit"""
    candidates: Float[Tensor, "*batch candidates dim"]
    values: Float[Tensor, "*batch candidates"]
    """NaN or infinite for a broken candidate; NaN if the candidate itself is not finite"""
    weights: Float[Tensor, "*batch candidates"]
    """weight of each candidate in the refit: 0 or 1 at ``temperature=0``, 0 for a broken one

    Those of DCEM and CEM sum to ``num_elites``, or to the number of candidates that are not broken if there are fewer;
    those of a softmax to 1; those of CMA may be negative.
    """


@dataclass(frozen=True)
class Solution:
    """The minimiser that a solver found for each of the B problems of a batch.

    If a search finds no finite value for a problem, that row is NaN in every field but the trace.
    """

    mean: Float[Tensor, "*batch dim"]
    """the answer: what the last distribution stands for (its mean), or the last iterate of a gradient method"""
    std: Float[Tensor, "*batch dim"]
    """standard deviation of the last distribution; zero for a gradient method"""
    value: Float[Tensor, "*batch"]
    """objective at ``mean``"""
    best: Float[Tensor, "*batch dim"]
    """the point of least value among all candidates and ``mean``"""
    best_value: Float[Tensor, "*batch"]
    """objective at ``best``, as evaluated during the search"""
    trace: tuple[Iteration, ...] | None = None
    """every iteration, if the solver was asked for a trace"""
    num_iterations: int | Int[Tensor, "*batch"] | None = None
    """iterations, or steps, that were taken; with a ``tolerance``, those before the problem ended"""
    bounds: tuple[float | Tensor | None, float | Tensor | None] = (None, None)
    """of points: lower and upper, numbers or ``[B, D]``"""
    maximize: bool = False
    """whether the largest value was looked for: "least" is then "largest" above"""

    @property
    def at_bound(self) -> Bool[Tensor, "*batch dim"]:
        """Where the best point lies on a bound, so that a wider one may have a better point."""
        lies = [self.best == bound for bound in self.bounds if bound is not None]
        return torch.stack(lies).any(0) if lies else torch.zeros_like(self.best, dtype=torch.bool)

    @property
    def has_collapsed(self) -> Bool[Tensor, "*batch"]:
        """Whether the spread is below the rounding of the answer in every dimension, so that candidates are all alike.

        More iterations cannot change such an answer. If it is not good, try more candidates or elites, a larger
        ``min_std``, or momentum. Meaningless for gradient methods, which have no spread.
        """
        number = torch.finfo(self.std.dtype)
        return (self.std <= number.eps * self.mean.abs() + 1.001 * number.tiny**0.25).all(-1)

    @property
    def iterates(self) -> Float[Tensor, "iterates *batch dim"]:
        """The first mean and the mean after each iteration, the answer last.

        Raises:
            ValueError: a solution without a trace.
        """
        if self.trace is None:
            raise ValueError(
                "The iterates of a solution need a solver with trace=True, got a solution without a trace."
            )
        return torch.stack([*(iteration.mean for iteration in self.trace), self.mean])
