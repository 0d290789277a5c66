"""Restarts of searches that have converged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.distributions import Distribution
from lit_dcem.solvers.options import require


class Restarted(NamedTuple):
    """State of `Restarts`."""

    inner: Any
    """state of the distribution that is restarted"""
    first: Any
    """its state at the beginning"""

    @property
    def mean(self) -> Float[Tensor, "batch dim"]:
        """Mean of the current run."""
        return self.inner.mean

    @property
    def std(self) -> Float[Tensor, "batch dim"]:
        """Standard deviation of the current run."""
        return self.inner.std


@dataclass(frozen=True)
class Restarts(Distribution):
    """Another distribution, which starts again in each problem where it has become narrow.

    For functions with many minima, where one run ends in some of them. The answer is the best point of the solution;
    its mean is that of the last run, which may have just begun.

    Args:
        distribution: what is restarted.
        below: restart once the largest standard deviation is below this fraction of the first one.

    Raises:
        ValueError: a fraction outside (0, 1).
    """

    distribution: Distribution
    below: float = 1e-9

    def __post_init__(self) -> None:
        require(0 < self.below < 1, "below must be in (0, 1)", self.below)

    def begin(self, mean: Tensor, std: Tensor) -> Restarted:
        first = self.distribution.begin(mean, std)
        return Restarted(first, first)

    def sample(self, state: Restarted, noise: Tensor) -> Tensor:
        return self.distribution.sample(state.inner, noise)

    def fit(self, state: Restarted, candidates: Tensor, weights: Tensor) -> Restarted:
        fitted = self.distribution.fit(state.inner, candidates, weights)
        ended = fitted.std.detach().amax(1) < self.below * state.first.std.detach().amax(1)
        return Restarted(_chosen(ended, state.first, fitted), state.first)


def _chosen(rows: Tensor, first: Any, other: Any) -> Any:
    """The chosen rows of one state, and the others of another; numbers that all rows share are the other's."""

    def pick(one: Any, two: Any) -> Any:
        if not isinstance(two, Tensor):
            return two
        return torch.where(rows.view(-1, *(1,) * (two.dim() - 1)), one, two)

    return type(other)(*map(pick, first, other))
