"""Adaptation of a full covariance (CMA-ES), as a distribution and a weighting of the sampling loop.

The equations are those of Hansen 2016, "The CMA Evolution Strategy: A Tutorial" (arXiv:1604.00772); numbers in
brackets are its equations. Everything is batched over problems and differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.distributions import Distribution
from lit_dcem.solvers.options import require, whole_number


@dataclass(frozen=True)
class LogRank:
    """Weight ``log(k + 1/2) - log(rank)`` for the k best candidates, scaled to sum to k (49). No gradient passes.

    Args:
        num_elites: k; by default half of the candidates.
        negative: give the other candidates the negative numbers of the same formula, as active covariance adaptation
            needs (53). Only `CMA` takes negative weights.

    Raises:
        ValueError: ``num_elites`` below 1.
    """

    num_elites: int | None = None
    negative: bool = False

    def __post_init__(self) -> None:
        if self.num_elites is not None:
            require(whole_number("num_elites", self.num_elites) >= 1, "num_elites must be at least 1", self.num_elites)

    def __call__(self, scores: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        count = scores.shape[-1]
        k = max(1, count // 2) if self.num_elites is None else int(self.num_elites)
        require(k <= count, "num_elites must be at most num_candidates", k, count)
        ranks = torch.arange(1, count + 1, dtype=scores.dtype, device=scores.device)
        by_rank = math.log(k + 0.5) - ranks.log()
        by_rank = by_rank * (k / by_rank[:k].sum())
        if not self.negative:
            by_rank = by_rank.clamp_min(0)
        order = scores.detach().argsort(-1, descending=True)
        weights = torch.zeros_like(scores).scatter(-1, order, by_rank.expand_as(scores))
        return torch.where(scores > -math.inf, weights, 0)


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

    Use it for problems with correlated or badly scaled dimensions, with small populations, many iterations and
    `LogRank` weights. It does not depend on the rotation of the problem, nor on monotonous changes of the values.
    Learning rates follow from D and from the effective number of candidates behind the weights; so other weights than
    `LogRank` work, too, and with soft ones gradients pass through every update. Gradients pass once; second derivatives
    are not those of the root of a matrix.
    """

    def begin(self, mean: Tensor, std: Tensor) -> Adaptation:
        std = std.clamp_min(_floor(std))
        scale = std.square().mean(1, keepdim=True).sqrt()
        covariance = torch.diag_embed((std / scale).square())
        zeros = torch.zeros_like(mean)
        return Adaptation(mean, scale, covariance, *_roots(covariance), zeros, zeros, torch.zeros_like(scale), 0)

    def sample(self, state: Adaptation, noise: Tensor) -> Tensor:
        return state.mean.unsqueeze(1) + state.scale.unsqueeze(1) * (noise @ state.root)

    def fit(self, state: Adaptation, candidates: Tensor, weights: Tensor) -> Adaptation:
        selected = _shares(weights.clamp_min(0))
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
        return Adaptation(
            _combined(selected, candidates), scale.clamp_min(_floor(scale)), covariance, root, whitening,
            path, scale_path, variance, state.iteration + 1,
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
    rejected = _shares(weights.neg().clamp_min(0))
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


def _shares(weights: Tensor) -> Tensor:
    return weights / _nonzero(weights.detach().sum(-1, keepdim=True))


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
