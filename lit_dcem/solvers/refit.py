"""One iteration of the cross-entropy method: draw, evaluate, weigh, refit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lit_dcem.solvers.lml import lml
from lit_dcem.solvers.options import as_bound, plain, require
from lit_dcem.solvers.ranking import hard_top_k, is_free_to_look, rank_finite
from lit_dcem.solvers.types import Bound, Iteration, Objective

Bounds = tuple[float | Tensor | None, float | Tensor | None]


@dataclass(frozen=True)
class State:
    """State passed from one iteration to the next."""

    mean: Float[Tensor, "batch dim"]
    std: Float[Tensor, "batch dim"]
    kept: Float[Tensor, "batch kept dim"] | None
    """candidates that take part in the next iteration"""


@dataclass(frozen=True)
class Refit:
    """``(state, noise) -> (state, iteration)``; the fields are the options of `dcem`.

    A problem whose candidates are all broken keeps its distribution.
    """

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
        candidates = clamped(candidates, self._bounds_of_candidates)
        values = evaluate(self.objective, candidates)
        points, broken = candidates, None
        if not known_to_be_finite(candidates, values):
            values, broken = set_aside(self.objective, candidates, values)
            # Weight 0 is not enough: 0 * NaN is NaN.
            points = torch.where(broken.unsqueeze(-1), state.mean.detach().unsqueeze(1), candidates)
        weights = self._weigh(values, broken)
        mean, std = self._fit(state, points, weights)
        if broken is not None:
            has_any = ~broken.all(1, keepdim=True)
            mean, std = torch.where(has_any, mean, state.mean), torch.where(has_any, std, state.std)
            weights = torch.where(has_any, weights, 0)
        iteration = Iteration(state.mean, state.std, candidates, values, weights)
        return State(mean, std, self._keep(points, values)), iteration

    @property
    def _bounds_of_candidates(self) -> Bounds:
        lower, upper = self.bounds
        return (
            lower.unsqueeze(1) if isinstance(lower, Tensor) else lower,
            upper.unsqueeze(1) if isinstance(upper, Tensor) else upper,
        )

    def _weigh(self, values: Tensor, broken: Tensor | None) -> Tensor:
        """Weights: a hard (CEM) or a soft (DCEM) top-k of minus the values, 0 for broken ones."""
        is_hard = not isinstance(self.temperature, Tensor) and self.temperature == 0
        if broken is not None:
            hopeless = broken.all(-1, keepdim=True)
            values = torch.where(hopeless, 0, values)  # any finite numbers: `__call__` ignores them
            broken = broken & ~hopeless
        scores = _standardized(values, broken) if self.standardize and not is_hard else -values
        if broken is not None:
            scores = torch.where(broken, -math.inf, scores)
        return hard_top_k(scores, self.num_elites) if is_hard else lml(scores, self.num_elites, self.temperature)

    def _fit(self, state: State, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum likelihood of a diagonal Gaussian under the weights, with momentum and bounds.

        The weights sum to ``num_elites``, or to less if fewer candidates are finite; the sum is treated as a constant.
        """
        share = (weights / weights.detach().sum(-1, keepdim=True)).unsqueeze(-1)
        mean = (share * points).sum(1)
        variance = (share * (points - mean.unsqueeze(1)).square()).sum(1)
        # The square root has an infinite slope at zero; below the floor the gradient is zero instead. The floor is
        # where squares of deviations would become denormal numbers, which are slow.
        floor = max(self.min_std**2, math.sqrt(torch.finfo(variance.dtype).tiny))
        std = variance.clamp_min(floor).sqrt()
        if self.momentum > 0:
            mean = torch.lerp(mean, state.mean, self.momentum)
            std = torch.lerp(std, state.std, self.momentum)
        return clamped(mean, self.bounds), std

    def _keep(self, points: Tensor, values: Tensor) -> Tensor | None:
        if self.num_kept == 0:
            return None
        index = rank_finite(-values).topk(self.num_kept, -1).indices
        return points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


def evaluate(objective: Objective, candidates: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch n"]:
    """Values of the candidates, in the precision of the candidates.

    Raises:
        ValueError: the objective returned another shape than ``[B, N]``.
    """
    values = objective(candidates)
    rule = "objective must return one value per candidate"
    shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
    require(shape == list(candidates.shape[:2]), rule, f"{shape} for candidates {list(candidates.shape)}")
    return values.to(candidates.dtype)


def known_to_be_finite(candidates: Tensor, values: Tensor) -> bool:
    """Whether no candidate is broken, as far as that can be checked for free; false where it cannot."""
    return is_free_to_look(values) and all(math.isfinite(each.detach().sum().item()) for each in (values, candidates))


def set_aside(
    objective: Objective,
    candidates: Float[Tensor, "batch n dim"],
    values: Float[Tensor, "batch n"],
    spare: Float[Tensor, "batch dim"] | None = None,
) -> tuple[Float[Tensor, "batch n"], Bool[Tensor, "batch n"]]:
    """The values without gradients at broken candidates, and a mask of the candidates that are broken (not finite).

    The derivative of the objective may be NaN at a broken candidate (the square root of a negative number), and NaN
    times gradient 0 is still NaN. Where reading values is free, the objective is therefore called again with each
    broken candidate replaced by the ``spare`` point of its problem, by default the best candidate.
    """
    finite = candidates.detach().isfinite().all(-1)
    values = torch.where(finite, values, math.nan)
    broken = ~values.detach().isfinite()
    if values.requires_grad and torch.is_grad_enabled() and is_free_to_look(broken) and broken.any():
        spare = (best_of(candidates, values)[0] if spare is None else spare).detach().unsqueeze(1)
        moves = broken.unsqueeze(-1) & spare.isfinite()
        again = evaluate(objective, torch.where(moves, spare, candidates))
        broken = broken | ~again.detach().isfinite()
        values = torch.where(broken, values.detach(), again)
    return values, broken


def best_of(points: Float[Tensor, "batch n dim"], values: Float[Tensor, "batch n"]) -> tuple[Tensor, Tensor]:
    """The point of least finite value of each problem ``[B, D]`` and its value ``[B]``; any point if none is finite."""
    index = rank_finite(-values).argmax(1, keepdim=True)
    best = points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
    return best.squeeze(1), values.gather(1, index).squeeze(1)


def as_bounds(lower: Bound, upper: Bound, points: Float[Tensor, "batch dim"]) -> Bounds:
    """The bounds in a form that clamps the points: both numbers, or tensors ``[B, D]``."""
    lower, upper = plain(lower), plain(upper)
    if not any(isinstance(bound, (Tensor, list)) for bound in (lower, upper)):
        return lower, upper  # pyright: ignore[reportReturnType]
    return as_bound("lower", lower, points), as_bound("upper", upper, points)


def clamped(points: Tensor, bounds: Bounds) -> Tensor:
    """Points clamped to the bounds."""
    lower, upper = bounds
    return points if lower is None and upper is None else torch.clamp(points, lower, upper)  # pyright: ignore


def _standardized(values: Tensor, broken: Tensor | None) -> Tensor:
    """Minus the values, standardized to mean 0 and variance 1 in each row; 0 in a constant row.

    Broken values count as the worst of their row. Each row is first shifted and scaled to [0, 1], so that rounding and
    overflow do not depend on offset and scale. This changes no derivative, because the result is invariant to both.
    """
    scores = values * -0.5  # halved, so that no difference overflows
    if broken is not None:
        worst = torch.where(broken, math.inf, scores).amin(-1, keepdim=True)
        scores = torch.where(broken, worst, scores)
    low, high = scores.detach().aminmax(dim=-1, keepdim=True)
    span = high - low
    span = span.masked_fill(span <= torch.finfo(span.dtype).tiny, math.inf)
    return functional.layer_norm((scores - low) / span, scores.shape[-1:], eps=1e-30)
