"""How candidates are weighted by their scores: the only difference between CEM, DCEM and MPPI.

A weighting is any function ``scores [B, N] -> weights [B, N]``: larger scores are better, and minus infinity marks a
broken candidate, which must get weight 0. Only the ratios of the weights in a row count. `Weighting` is the base class
of those that a config can name. A weighting of your own::

    def by_rank(scores):
        ranks = scores.argsort(-1).argsort(-1)
        return torch.where(scores > -torch.inf, (ranks / ranks.shape[-1]) ** 8, 0)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.lml import lml
from lit_dcem.solvers.options import check_temperature, require, require_row_numbers, whole_number
from lit_dcem.solvers.ranking import hard_top_k


class Weighting(ABC):
    """``weighting(scores [B, N]) -> weights [B, N]``."""

    is_differentiable = True
    """whether gradients pass from the weights to the scores"""

    @abstractmethod
    def __call__(self, scores: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """Weights of the candidates, 0 where the score is minus infinity."""


AnyWeighting = Weighting | Callable[[Tensor], Tensor]
"""an object, or a function"""


@dataclass(frozen=True)
class TopK(Weighting):
    """Weight 1 for the k best candidates: CEM. No gradient passes.

    Args:
        num_elites: k, number of elites.

    Raises:
        ValueError: ``num_elites`` below 1.
    """

    num_elites: int
    is_differentiable = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_elites", _checked_elites(self.num_elites))

    def __call__(self, scores: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        return hard_top_k(scores, self.num_elites)


@dataclass(frozen=True)
class SoftTopK(Weighting):
    r"""The LML projection, a soft top-k: DCEM (section 3 of the paper).

    .. math:: w_i = \mathrm{sigmoid}\left(\frac{s_i + \nu}{\tau}\right), \qquad \sum_i w_i = k

    Args:
        num_elites: k; the weights, each from 0 to 1, sum to it.
        temperature: divides the scores; a tensor must broadcast against ``[B, 1]``. It may be learned: the
            solver that has this weighting registers a Parameter.

    Raises:
        ValueError: ``num_elites`` below 1, or a temperature that is not positive.
    """

    num_elites: int
    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_elites", _checked_elites(self.num_elites))
        check_temperature(self.temperature)

    def __call__(self, scores: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        return lml(scores, self.num_elites, self.temperature)


@dataclass(frozen=True)
class Softmax(Weighting):
    r"""Weights in proportion to ``exp(score / temperature)``: MPPI (Williams et al. 2017, information theoretic MPC).

    .. math:: w_i = \frac{\exp(s_i / \tau)}{\sum_j \exp(s_j / \tau)}

    Args:
        temperature: divides the scores; a tensor must broadcast against ``[B, 1]``. It may be learned: the
            solver that has this weighting registers a Parameter.

    Raises:
        ValueError: a temperature that is not positive.
    """

    temperature: float | Tensor = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def __call__(self, scores: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        temperature = self.temperature
        if isinstance(temperature, Tensor):
            require_row_numbers("temperature", temperature, scores.shape[:-1])
            temperature = temperature.to(scores)
        counts = scores > -torch.inf
        logits = torch.where(counts, scores, 0) / temperature  # infinity would give NaN for its derivative
        return torch.softmax(torch.where(counts, logits, -torch.inf), -1)


@dataclass(frozen=True)
class LogRank(Weighting):
    r"""Weight ``log(k + 1/2) - log(rank)`` for the k best candidates, scaled to sum to k. No gradient passes.

    .. math:: w_r = k \frac{\log(k + 1/2) - \log r}{\sum_{j=1}^k \left(\log(k + 1/2) - \log j\right)},
        \qquad r = 1, \ldots, k

    The weights of CMA-ES (Hansen 2016, arXiv:1604.00772, table 1). Ranks need no standardized scores; with
    ``standardize=False``, no differences are lost in rounding.

    Args:
        num_elites: k; by default half of the candidates.
        negative: give the other candidates the negative numbers of the same formula, as active covariance adaptation
            needs. Of our distributions `CMA` alone takes them.

    Raises:
        ValueError: ``num_elites`` below 1.
    """

    num_elites: int | None = None
    negative: bool = False
    is_differentiable = False

    def __post_init__(self) -> None:
        if self.num_elites is not None:
            object.__setattr__(self, "num_elites", _checked_elites(self.num_elites))

    def __call__(self, scores: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        count = scores.shape[-1]
        k = max(1, count // 2) if self.num_elites is None else self.num_elites
        require(k <= count, "num_elites must be at most num_candidates", k, count)
        ranks = torch.arange(1, count + 1, dtype=scores.dtype, device=scores.device)
        by_rank = math.log(k + 0.5) - ranks.log()
        by_rank = by_rank * (k / by_rank[:k].sum())
        if not self.negative:
            by_rank = by_rank.clamp_min(0)
        order = scores.detach().argsort(-1, descending=True)
        weights = torch.zeros_like(scores).scatter(-1, order, by_rank.expand_as(scores))
        return torch.where(scores > -math.inf, weights, 0)


def _checked_elites(num_elites: int) -> int:
    count = whole_number("num_elites", num_elites)
    require(count >= 1, "num_elites must be at least 1", num_elites)
    return count
