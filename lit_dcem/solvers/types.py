"""What a solver takes and returns."""

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
else:  # torch does not need it, and neither do we
    ndarray = Tensor

Objective = Callable[[Tensor], Tensor]
"""``objective(candidates [B, N, D]) -> values [B, N]``, to be minimised; row b holds the candidates of problem b."""

Bound = float | Sequence[float] | ndarray | Tensor | None
"""of points ``[B, D]``: one number, or numbers that broadcast against them; None for no bound"""


@dataclass(frozen=True)
class Iteration:
    """One iteration of a solver: the distribution it drew from, what it drew, and what it thought of it."""

    mean: Float[Tensor, "batch dim"]
    """mean of the sampling distribution, before the refit"""
    std: Float[Tensor, "batch dim"]
    """standard deviation of the sampling distribution, before the refit"""
    candidates: Float[Tensor, "batch candidates dim"]
    values: Float[Tensor, "batch candidates"]
    """NaN or infinite for a broken candidate; NaN for one that is itself not finite"""
    weights: Float[Tensor, "batch candidates"]
    """share of each candidate in the refit: hard (0 or 1) at ``temperature=0``, 0 for a broken one

    They sum to ``num_elites``, or to the number of candidates that are not broken, if those are fewer.
    """


@dataclass(frozen=True)
class Solution:
    """What a solver returns: the minimiser it found for each of the B problems of the batch.

    A problem of which `dcem` finds no candidate with a finite value is NaN in every field, the trace excepted.
    """

    mean: Float[Tensor, "batch dim"]
    """the answer: the mean of the last distribution, or the last iterate of a gradient method"""
    std: Float[Tensor, "batch dim"]
    """standard deviation of the last distribution; zero for a gradient method"""
    value: Float[Tensor, " batch"]
    """objective at ``mean``"""
    best: Float[Tensor, "batch dim"]
    """the point of least value the solver met, ``mean`` included"""
    best_value: Float[Tensor, " batch"]
    """objective at ``best``, as met during the search"""
    trace: tuple[Iteration, ...] | None = None
    """every iteration, when asked for"""

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
