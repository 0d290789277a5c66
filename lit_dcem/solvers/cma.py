"""Adaptation of a full covariance (CMA-ES), as a distribution of the sampling loop.

The equations are those of Hansen 2016, "The CMA Evolution Strategy: A Tutorial" (arXiv:1604.00772), figure 6, with the
learning rates of its table 1. Everything is batched over problems and differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.distributions import Distribution, shares_of
from lit_dcem.solvers.options import require


class Adaptation(NamedTuple):
    """State of `CMA`: the distribution is ``N(mean, scale^2 covariance)``."""

    mean: Float[Tensor, "batch dim"]
    scale: Float[Tensor, "batch 1"]
    """step size, sigma in the tutorial"""
    covariance: Float[Tensor, "batch dim dim"]
    root: Float[Tensor, "batch dim dim"]
    """symmetric square root of a covariance, perhaps of a few iterations ago"""
    whitening: Float[Tensor, "batch dim dim"]
    """inverse of ``root``"""
    path: Float[Tensor, "batch dim"]
    """recent steps of the mean, for the covariance"""
    scale_path: Float[Tensor, "batch dim"]
    """recent steps of the mean, whitened, for the scale"""
    scale_path_variance: Float[Tensor, "batch 1"]
    """variance of each entry of ``scale_path`` if selection were random; 1 in the long run"""
    first_mean: Float[Tensor, "batch dim"]
    """where a restart begins"""
    first_std: Float[Tensor, "batch dim"]
    iteration: int

    @property
    def std(self) -> Float[Tensor, "batch dim"]:
        """Standard deviation of each dimension."""
        return self.scale * self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()


class Rates(NamedTuple):
    """Learning rates of one iteration, each ``[B, 1]``; names in the tutorial in brackets."""

    size: Tensor
    """effective number of selected candidates (mu_eff)"""
    scale_path: Tensor
    """c_sigma"""
    damping: Tensor
    """d_sigma"""
    path: Tensor
    """c_c"""
    rank_one: Tensor
    """c_1"""
    rank_mu: Tensor
    """c_mu"""


@dataclass(frozen=True)
class CMA(Distribution):
    """Covariance matrix adaptation with evolution paths and a step size controlled by path length (CMA-ES).

    Use it for correlated or badly scaled dimensions, with `LogRank` weights, small populations (4 + 3 log D) and many
    iterations. It does not depend on the rotation of the problem, nor on monotonous changes of the values. The learning
    rates follow from D and from the effective number of candidates behind the weights, so other weights work, too; with
    soft ones, gradients pass through every update (once: second derivatives of the root of a matrix are left out).

    Args:
        restart_below: a problem starts again once its largest standard deviation is below this fraction of the first
            one; for functions with many minima. The answer is then the best point of the solution; its mean is that of
            the last run, which may have just begun. 0: never.

    Raises:
        ValueError: a fraction outside [0, 1).
    """

    restart_below: float = 0.0
    takes_negative_weights = True

    def __post_init__(self) -> None:
        require(0 <= self.restart_below < 1, "restart_below must be at least 0 and below 1", self.restart_below)

    def begin(self, mean: Tensor, std: Tensor) -> Adaptation:
        std = std.clamp_min(_floor(std))
        scale = std.square().mean(1, keepdim=True).sqrt()
        root, zeros = torch.diag_embed(std / scale), torch.zeros_like(mean)
        matrices = root.square(), root, torch.diag_embed(scale / std)
        return Adaptation(mean, scale, *matrices, zeros, zeros, torch.zeros_like(scale), mean, std, 0)

    def sample(self, state: Adaptation, noise: Tensor) -> Tensor:
        return state.mean.unsqueeze(1) + state.scale.unsqueeze(1) * (noise @ state.root)

    def fit(self, state: Adaptation, candidates: Tensor, weights: Tensor) -> Adaptation:
        fitted = self._fitted(state, candidates, weights)
        if self.restart_below == 0:
            return fitted
        ended = fitted.std.detach().amax(1) < self.restart_below * state.first_std.detach().amax(1)
        first = self.begin(state.first_mean, state.first_std)
        return _chosen(ended, first, fitted)

    def _fitted(self, state: Adaptation, candidates: Tensor, weights: Tensor) -> Adaptation:
        selected = shares_of(weights.clamp_min(0))
        rates = rates_of(selected, state.mean.shape[1])
        steps = (candidates - state.mean.unsqueeze(1)) / state.scale.unsqueeze(1)
        step = _combined(selected, steps)
        scale_path, variance, length = _scale_path(state, rates, step)
        scale = state.scale * torch.exp((rates.scale_path / rates.damping * (length - 1)).clamp_max(1))
        pull, total = _signed(selected, weights, rates, steps @ state.whitening)
        path, covariance = _covariance(state, rates, step, length.square() / variance, steps, pull, total)
        root, whitening = state.root, state.whitening
        if (state.iteration + 1) % max(1, steps.shape[-1] // 10) == 0:  # they change slowly
            root, whitening = _roots(covariance)
        return state._replace(
            mean=_combined(selected, candidates), scale=scale.clamp_min(_floor(scale)), covariance=covariance,
            root=root, whitening=whitening, path=path, scale_path=scale_path, scale_path_variance=variance,
            iteration=state.iteration + 1,
        )  # fmt: skip


def rates_of(shares: Float[Tensor, "batch n"], dim: int) -> Rates:
    """The learning rates for positive weights that sum to 1 (table 1 of the tutorial)."""
    size = 1 / _nonzero(shares.square().sum(-1, keepdim=True))
    scale_path = (size + 2) / (dim + size + 5)
    excess = ((size - 1) / (dim + 1)).clamp_min(1).sqrt() - 1
    path = (4 + size / dim) / (dim + 4 + 2 * size / dim)
    rank_one = 2 / ((dim + 1.3) ** 2 + size)
    rank_mu = 2 * (0.25 + size + 1 / size - 2) / ((dim + 2) ** 2 + size)
    return Rates(size, scale_path, 1 + 2 * excess + scale_path, path, rank_one, rank_mu.minimum(1 - rank_one))


def _scale_path(state: Adaptation, rates: Rates, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The path of whitened steps, its variance, and its length over that of a standard normal vector."""
    dim, rate = step.shape[-1], rates.scale_path
    whitened = _combined(step, state.whitening)
    path = (1 - rate) * state.scale_path + _gain(rate, rates.size) * whitened
    variance = (1 - rate).square() * state.scale_path_variance + rate * (2 - rate)
    normal = math.sqrt(dim) * (1 - 1 / (4 * dim) + 1 / (21 * dim**2))
    # The square root has an infinite slope at zero.
    length = path.square().sum(-1, keepdim=True).clamp_min(torch.finfo(path.dtype).tiny).sqrt() / normal
    return path, variance, length


def _signed(selected: Tensor, weights: Tensor, rates: Rates, whitened: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the steps in the covariance, and their sum before negative ones are scaled by the lengths of steps.

    Negative weights sum to at most what keeps the covariance positive definite (table 1).
    """
    dim = whitened.shape[-1]
    rejected = shares_of(weights.neg().clamp_min(0))
    size = 1 / _nonzero(rejected.square().sum(-1, keepdim=True))
    by_size = 1 + 2 * size / (rates.size + 2)
    by_definiteness = (1 - rates.rank_one - rates.rank_mu) / (dim * rates.rank_mu)
    rejected = rejected * (1 + rates.rank_one / rates.rank_mu).minimum(by_size).minimum(by_definiteness)
    lengths = whitened.square().sum(-1).clamp_min(torch.finfo(whitened.dtype).eps)
    return selected - rejected * dim / lengths, (selected - rejected).sum(-1, keepdim=True)


def _covariance(
    state: Adaptation, rates: Rates, step: Tensor, surprise: Tensor, steps: Tensor, pull: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """The path of steps and the covariance, updated by rank one (the path) and by rank mu (the steps).

    The path stalls while the scale path is much longer (``surprise``) than chance makes it.
    """
    dim, rate = step.shape[-1], rates.path
    moves = (surprise.detach() < (1.4 + 2 / (dim + 1)) ** 2).to(step.dtype)
    path = (1 - rate) * state.path + moves * _gain(rate, rates.size) * step
    loss = (1 - moves) * rates.rank_one * rate * (2 - rate)
    decay = 1 - rates.rank_one - rates.rank_mu * total + loss
    ones = rates.rank_one.unsqueeze(-1) * path.unsqueeze(2) * path.unsqueeze(1)
    mus = (steps * (rates.rank_mu * pull).unsqueeze(-1)).mT @ steps
    covariance = decay.unsqueeze(-1) * state.covariance + ones + mus
    # An overflow in one problem would make the roots of all fail.
    is_finite = covariance.detach().isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    return path, torch.where(is_finite, covariance, state.covariance)


def _roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric square root of each matrix, and its inverse.

    The derivative of an eigenvector is infinite where eigenvalues meet, but that of the root is not. So the
    eigenvectors are constants here, and a term of value zero has the derivative of the root (Daleckii and Krein).
    """
    fixed = covariance.detach()
    values, vectors = torch.linalg.eigh(fixed)
    # What is below has no correct digits.
    values = values.clamp_min(torch.finfo(values.dtype).eps * values[..., -1:]).sqrt()
    root = (vectors * values.unsqueeze(-2)) @ vectors.mT
    inverse = (vectors / values.unsqueeze(-2)) @ vectors.mT
    if torch.is_grad_enabled():
        change = vectors.mT @ (covariance - fixed) @ vectors / (values.unsqueeze(-1) + values.unsqueeze(-2))
        change = vectors @ change @ vectors.mT
        root, inverse = root + change, inverse - inverse @ change @ inverse
    return root, inverse


def _chosen(rows: Tensor, first: Adaptation, other: Adaptation) -> Adaptation:
    """The chosen rows of one state and the others of another; the iteration is the other's."""
    names = Adaptation._fields[:-1]
    pairs = ((name, getattr(first, name), getattr(other, name)) for name in names)
    chosen = {name: torch.where(rows.view(-1, *[1] * (one.dim() - 1)), one, two) for name, one, two in pairs}
    return other._replace(**chosen)


def _combined(weights: Tensor, rows: Tensor) -> Tensor:
    """``[B, N]`` and ``[B, N, D]`` to ``[B, D]``."""
    return (weights.unsqueeze(1) @ rows).squeeze(1)


def _gain(rate: Tensor, size: Tensor) -> Tensor:
    """What keeps the variance of a path at 1."""
    return (rate * (2 - rate) * size).sqrt()


def _nonzero(tensor: Tensor) -> Tensor:
    """The tensor with 1 in place of 0: nothing was selected."""
    return torch.where(tensor > 0, tensor, 1)


def _floor(tensor: Tensor) -> float:
    """The least scale, whose square is far from a denormal number."""
    return math.sqrt(torch.finfo(tensor.dtype).tiny) * 1e3
