"""One iteration of a sampling search: draw, evaluate, weigh, fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional

from lit_dcem.solvers.arrays import suits_arrays
from lit_dcem.solvers.clipping import clip_gradient
from lit_dcem.solvers.distributions import Distribution, Gaussian
from lit_dcem.solvers.fused import fused_fit
from lit_dcem.solvers.options import as_bound, plain, require
from lit_dcem.solvers.precision import full_precision
from lit_dcem.solvers.ranking import is_free_to_look, rank_finite
from lit_dcem.solvers.types import Bound, Iteration, Objective
from lit_dcem.solvers.weights import AnyWeighting, SoftTopK

Bounds = tuple[float | Tensor | None, float | Tensor | None]


@dataclass(frozen=True)
class State:
    """State passed from one iteration to the next."""

    distribution: Any
    """state of the distribution: a NamedTuple with ``mean`` and ``std``"""
    kept: Float[Tensor, "batch kept dim"] | None = None
    """candidates that take part in the next iteration"""
    ended: Bool[Tensor, " batch"] | None = None
    """problems whose spread is within the tolerance; None without a tolerance"""


@dataclass(frozen=True)
class Step:
    """``(state, noise) -> (state, iteration)``; the fields are options of `minimize`.

    A problem whose candidates are all broken, or that has ended, keeps its distribution.
    """

    objective: Objective
    bounds: Bounds
    weighting: AnyWeighting
    distribution: Distribution
    standardize: bool
    num_kept: int
    tolerance: float | None
    gradient_clip: float | None = None

    def begin(self, mean: Tensor, std: Tensor, kept: Tensor | None) -> State:
        """The first state."""
        with full_precision(mean):
            distribution = self.distribution.begin(mean, std)
        return State(distribution, kept, self._ended(distribution))

    def __call__(self, state: State, noise: Float[Tensor, "batch fresh dim"]) -> tuple[State, Iteration]:
        before = state.distribution
        with full_precision(noise):
            candidates = self._candidates(state, noise)
        values = evaluate(self.objective, candidates)
        points, broken = candidates, None
        if not known_to_be_finite(values, candidates):
            values, broken = set_aside(self.objective, candidates, values)
            # Weight 0 is not enough: 0 * NaN is NaN.
            points = torch.where(broken.unsqueeze(-1), before.mean.detach().unsqueeze(1), candidates)
        with full_precision(noise):
            after, weights = self._fit(before, points, values, broken)
        if broken is not None:
            has_any = ~broken.all(1)
            after, weights = _where(has_any, after, before), torch.where(has_any.unsqueeze(1), weights, 0)
        if state.ended is not None:
            after = _where(~state.ended, after, before)
        iteration = Iteration(before.mean, before.std, candidates, values, weights)
        return State(after, self._keep(points, values), self._ended(after)), iteration

    def _fit(self, before: Any, points: Tensor, values: Tensor, broken: Tensor | None) -> tuple[Any, Tensor]:
        """The next state of the distribution, with its mean within the bounds, and the weights."""
        scored = values if self.gradient_clip is None else clip_gradient(values, self.gradient_clip)
        fitted = self._fused(before, scored, points) if broken is None else None
        if fitted is None:
            weights = self._weigh(scored, broken)
            chosen = (weights != 0).any(1)  # a weighting of one's own may choose nothing
            fitted = _where(chosen, self.distribution.fit(before, points, weights), before), weights
        after, weights = fitted
        return after._replace(mean=clamped(after.mean, self.bounds)), weights

    def _candidates(self, state: State, noise: Tensor) -> Tensor:
        candidates = self.distribution.sample(state.distribution, noise)
        if state.kept is not None:
            candidates = torch.cat([candidates, state.kept.to(candidates)], 1)
        if state.ended is not None:  # so that the result does not depend on the other problems
            rest = state.distribution.mean.unsqueeze(1)
            candidates = torch.where(state.ended[:, None, None], rest, candidates)
        return clamped(candidates, self._bounds_of_candidates)

    @property
    def _bounds_of_candidates(self) -> Bounds:
        lower, upper = self.bounds
        return (
            lower.unsqueeze(1) if isinstance(lower, Tensor) else lower,
            upper.unsqueeze(1) if isinstance(upper, Tensor) else upper,
        )

    def _weigh(self, values: Tensor, broken: Tensor | None) -> Tensor:
        """Weights by minus the values, 0 for broken ones."""
        if broken is not None:
            hopeless = broken.all(-1, keepdim=True)
            values = torch.where(hopeless, 0, values)  # any finite numbers: `__call__` ignores them
            broken = broken & ~hopeless
        scores = _standardized(values, broken) if self.standardize else -values
        if broken is not None:
            scores = torch.where(broken, -math.inf, scores)
        return self.weighting(scores)

    def _fused(self, before: Any, values: Tensor, candidates: Tensor) -> tuple[Any, Tensor] | None:
        """The next state and the weights if this is the paper's refit, and small enough to gain from `fused_fit`."""
        of, to = self.weighting, self.distribution
        if not (isinstance(of, SoftTopK) and isinstance(to, Gaussian)) or not self.standardize:
            return None
        if to.fixed_std or to.unbiased:
            return None
        if (type(of), type(to)) != (SoftTopK, Gaussian):  # subclasses may compute something else
            return None
        if isinstance(of.temperature, Tensor) or of.num_elites >= values.shape[1]:
            return None
        if not (suits_arrays(candidates) and suits_arrays(values)):
            return None

        def parts(values: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            weights = self._weigh(values, None)
            mean, std = replace(to, momentum=0.0).fit(before, candidates, weights)
            return mean, std, weights

        options = of.num_elites, float(of.temperature), to.floor(values.dtype), parts
        mean, std, weights = fused_fit(values, candidates, *options)
        return to.smoothed(before, mean, std), weights

    def _keep(self, points: Tensor, values: Tensor) -> Tensor | None:
        if self.num_kept == 0:
            return None
        index = rank_finite(-values).topk(self.num_kept, -1).indices
        return points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))

    def _ended(self, distribution: Any) -> Bool[Tensor, " batch"] | None:
        return None if self.tolerance is None else distribution.std.detach().amax(1) <= self.tolerance


def _where(rows: Bool[Tensor, " batch"], first: Any, second: Any) -> Any:
    """The state of a distribution that is the first in some rows and the second in the others."""
    chosen = (
        torch.where(rows.view(-1, *[1] * (one.dim() - 1)), one, other) if isinstance(one, Tensor) else one
        for one, other in zip(first, second, strict=True)
    )
    return type(first)(*chosen)


def evaluate(objective: Objective, candidates: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch n"]:
    """Values of the candidates, in the precision of the candidates.

    Raises:
        ValueError: the objective returned another shape than ``[B, N]``.
    """
    values = objective(candidates)
    if not isinstance(values, Tensor) or values.shape != candidates.shape[:2]:
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        rule = "objective must return one value per candidate"
        require(False, rule, f"{shape} for candidates {list(candidates.shape)}")
    return values.to(candidates.dtype)


def known_to_be_finite(values: Tensor, *points: Tensor) -> bool:
    """Whether all are finite, as far as that can be checked for free; false where it cannot.

    Args:
        values: of points; those of wrapped points are wrapped, too, and not looked at.
        points: what they are the values of, unless that is known.
    """
    return is_free_to_look(values) and all(math.isfinite(each.detach().sum().item()) for each in (values, *points))


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
    scaled = (scores - low) / span
    if not torch.compiler.is_compiling() and unpack_dual(scaled).tangent is not None:
        # torch differentiates the tangent of a layer norm wrongly (as of 2.13).
        centered = scaled - scaled.mean(-1, keepdim=True)
        return centered / (centered.square().mean(-1, keepdim=True) + 1e-30).sqrt()
    return functional.layer_norm(scaled, scores.shape[-1:], eps=1e-30)
