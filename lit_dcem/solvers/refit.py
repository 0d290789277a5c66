"""One iteration of the cross-entropy method: draw, evaluate, weigh, refit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lit_dcem.solvers.lml import lml
from lit_dcem.solvers.options import require
from lit_dcem.solvers.ranking import hard_top_k, rank_finite
from lit_dcem.types import Iteration, Objective

Bounds = tuple[float | Tensor | None, float | Tensor | None]


@dataclass(frozen=True)
class State:
    """What one iteration hands to the next."""

    mean: Float[Tensor, "batch dim"]
    std: Float[Tensor, "batch dim"]
    kept: Float[Tensor, "batch kept dim"] | None
    """candidates that take part in the next iteration again"""


@dataclass(frozen=True)
class Refit:
    """``(state, noise) -> (state, iteration)``; the fields are the options of `dcem`."""

    objective: Objective
    bounds: Bounds
    num_elites: int
    temperature: float | Tensor
    standardize: bool
    min_std: float
    momentum: float
    num_kept: int

    def __call__(self, state: State, noise: Float[Tensor, "batch fresh dim"]) -> tuple[State, Iteration]:
        candidates = torch.addcmul(state.mean.unsqueeze(1), state.std.unsqueeze(1), noise)
        if state.kept is not None:
            candidates = torch.cat([candidates, state.kept.to(candidates)], 1)
        candidates = _clamped(candidates, self.bounds)
        values = evaluate(self.objective, candidates)
        weights = self._weigh(values)
        mean, std = self._fit(state, candidates, weights)
        iteration = Iteration(state.mean, state.std, candidates, values, weights)
        return State(mean, std, self._keep(candidates, values)), iteration

    def _weigh(self, values: Tensor) -> Tensor:
        """The only difference between CEM and DCEM: a hard or a soft top-k of minus the values."""
        scores = _standardized(-values) if self.standardize else -values
        if not isinstance(self.temperature, Tensor) and self.temperature == 0:
            return hard_top_k(scores, self.num_elites)
        return lml(scores, self.num_elites, self.temperature)

    def _fit(self, state: State, candidates: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum likelihood of a diagonal Gaussian under the weights, with momentum and bounds.

        The weights sum to ``num_elites``, or to less if fewer candidates are finite; the sum has no derivative.
        """
        share = (weights / weights.detach().sum(-1, keepdim=True)).unsqueeze(-1)
        mean = (share * candidates).sum(1)
        variance = (share * (candidates - mean.unsqueeze(1)).square()).sum(1)
        # The square root has an infinite slope at zero; below the floor the gradient is zero instead. The floor is
        # where squares of deviations would become denormal numbers, which are slow.
        floor = max(self.min_std**2, math.sqrt(torch.finfo(variance.dtype).tiny))
        std = variance.clamp_min(floor).sqrt()
        if self.momentum > 0:
            mean = torch.lerp(mean, state.mean, self.momentum)
            std = torch.lerp(std, state.std, self.momentum)
        return _clamped(mean, (_squeezed(self.bounds[0]), _squeezed(self.bounds[1]))), std

    def _keep(self, candidates: Tensor, values: Tensor) -> Tensor | None:
        if self.num_kept == 0:
            return None
        index = rank_finite(-values).topk(self.num_kept, -1).indices
        return candidates.gather(1, index.unsqueeze(-1).expand(-1, -1, candidates.shape[-1]))


def evaluate(objective: Objective, candidates: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch n"]:
    """Values of the candidates, in the precision of the candidates.

    Raises:
        ValueError: the objective returned another shape than ``[B, N]``.
    """
    values = objective(candidates)
    rule = "objective must return one value a candidate"
    require(values.shape == candidates.shape[:2], rule, f"{list(values.shape)} for candidates {list(candidates.shape)}")
    return values.to(candidates.dtype)


def best_of(points: Float[Tensor, "batch n dim"], values: Float[Tensor, "batch n"]) -> tuple[Tensor, Tensor]:
    """The point of least finite value of each problem ``[B, D]``, and the value ``[B]``."""
    index = rank_finite(-values).argmax(1, keepdim=True)
    best = points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
    return best.squeeze(1), values.gather(1, index).squeeze(1)


def as_bounds(lower: float | Tensor | None, upper: float | Tensor | None, mean: Tensor) -> Bounds:
    """The bounds in a form that clamps candidates ``[B, N, D]``: both numbers, or tensors ``[B, 1, D]``."""
    if isinstance(lower, Tensor) or isinstance(upper, Tensor):
        return _expanded(lower, mean), _expanded(upper, mean)
    return lower, upper


def _expanded(bound: float | Tensor | None, mean: Tensor) -> Tensor | None:
    return None if bound is None else torch.as_tensor(bound).to(mean).expand_as(mean).unsqueeze(1)


def _squeezed(bound: float | Tensor | None) -> float | Tensor | None:
    return bound.squeeze(1) if isinstance(bound, Tensor) else bound


def _clamped(points: Tensor, bounds: Bounds) -> Tensor:
    lower, upper = bounds
    return points if lower is None and upper is None else torch.clamp(points, lower, upper)  # pyright: ignore


def _standardized(scores: Tensor) -> Tensor:
    """Scores with mean 0 and variance 1 in each row.

    Broken ones (NaN or infinite) take part as the worst finite score of the row, and come out as minus infinity.
    """
    finite = scores.detach().abs() < math.inf
    worst = torch.where(finite, scores.detach(), math.inf).amin(-1, keepdim=True)
    whole = torch.where(finite, scores, worst)
    return torch.where(finite, functional.layer_norm(whole, whole.shape[-1:], eps=1e-12), -math.inf)
