"""A Gaussian with full covariance, fitted by maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.distributions import Distribution, check_fit, shares_of


class Factored(NamedTuple):
    """State of `FullGaussian`: the distribution is ``N(mean, factor factor^T)``."""

    mean: Float[Tensor, "batch dim"]
    factor: Float[Tensor, "batch dim dim"]
    """lower triangular"""

    @property
    def std(self) -> Float[Tensor, "batch dim"]:
        """Standard deviation of each dimension."""
        return self.factor.norm(dim=-1)


@dataclass(frozen=True)
class FullGaussian(Distribution):
    r"""Normal numbers with correlations, fitted by maximum likelihood: CEM with a full covariance.

    .. math:: \mu_\mathrm{new} = \sum_i \frac{w_i}{W} x_i, \qquad W = \sum_i w_i, \qquad
        \Sigma_\mathrm{new} = \sum_i \frac{w_i}{W} (x_i - \mu_\mathrm{new}) (x_i - \mu_\mathrm{new})^\top

    The estimate from k elites has rank k - 1 at most, so with fewer elites than D + 1 the search loses directions; then
    use momentum, or `CMA`, which needs few candidates.

    Args:
        min_std: lower bound of the standard deviation of each dimension after a fit.
        momentum: weight of the old mean and covariance in the new ones, in [0, 1).

    Raises:
        ValueError: an option out of range.
    """

    min_std: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_fit(self.min_std, self.momentum)

    def begin(self, mean: Tensor, std: Tensor) -> Factored:
        return Factored(mean, torch.diag_embed(std.clamp_min(math.sqrt(_floor(std, self.min_std)))))

    def sample(self, state: Factored, noise: Tensor) -> Tensor:
        return state.mean.unsqueeze(1) + noise @ state.factor.mT

    def fit(self, state: Factored, candidates: Tensor, weights: Tensor) -> Factored:
        shares = shares_of(weights).unsqueeze(-1)
        mean = (shares * candidates).sum(1)
        offsets = candidates - mean.unsqueeze(1)
        covariance = (shares * offsets).mT @ offsets
        if self.momentum > 0:
            mean = torch.lerp(mean, state.mean, self.momentum)
            covariance = torch.lerp(covariance, state.factor @ state.factor.mT, self.momentum)
        return Factored(mean, _factored(covariance, _floor(covariance, self.min_std)))


def _factored(covariance: Float[Tensor, "batch dim dim"], floor: float) -> Float[Tensor, "batch dim dim"]:
    """The Cholesky factor, with variances of at least ``floor``.

    The matrix of correlations is factored, so that dimensions may have very different scales. What is added to its
    diagonal is a few times the rounding error of its entries, and makes a matrix of low rank positive definite.
    """
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    std = variance.clamp_min(floor).sqrt()
    # At the floor, a dimension has no correlations, and no gradients, which would be huge.
    inverse = torch.where(variance > floor, 1 / std, 0)
    correlations = inverse.unsqueeze(-1) * covariance * inverse.unsqueeze(-2)
    dim = covariance.shape[-1]
    diagonal = 1 + 8 * dim * torch.finfo(covariance.dtype).eps
    is_diagonal = torch.eye(dim, dtype=torch.bool, device=covariance.device)
    factor = torch.linalg.cholesky_ex(torch.where(is_diagonal, diagonal, correlations)).L
    return std.unsqueeze(-1) * factor


def _floor(like: Tensor, min_std: float) -> float:
    """The least variance; below lie denormal numbers, which are slow, and roots with an infinite slope."""
    return max(min_std**2, math.sqrt(torch.finfo(like.dtype).tiny))
