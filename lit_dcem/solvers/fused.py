"""The refit of the paper as one function: standardize values, weigh them by `lml`, fit a Gaussian.

On a CPU in eager mode, calls are most of the time of a small search. This is what the three parts compute one after the
other, in NumPy and with one derivative in closed form: with s the scores, w the weights, m the mean and v the variance,

    gradient of a weight     g = sum over dimensions of (x - m) (grad m + (x - m) grad v) / k
    gradient of a score      h = w (1 - w) / temperature (g - mean of g under w (1 - w))
    gradient of a value      -(h - s (mean of s h)) / standard deviation of the values
    gradient of a candidate  w (grad m + 2 (x - m) grad v) / k

The weights sum to k whatever the scores, so a constant may be added to g. Derivatives of a higher order are those of
the three parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lit_dcem.solvers.arrays import gradients_by_torch, must_use_torch, np
from lit_dcem.solvers.root import array_logits

Parts = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""``(values [B, N], candidates [B, N, D]) -> (mean [B, D], std [B, D], weights [B, N])``"""


def fused_fit(
    values: Tensor, candidates: Tensor, k: int, temperature: float, floor: float, parts: Parts
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation ``[B, D]`` of the soft elites of finite candidates, and the weights ``[B, N]``.

    Args:
        values: of the candidates, to be minimised, ``[B, N]``, finite.
        candidates: ``[B, N, D]``, finite.
        k: sum of the weights, below N.
        temperature: of the weights.
        floor: lower bound of the variance, above 0; below it the variance has no gradient.
        parts: the same as separate functions, for derivatives of a higher order.
    """
    return _FusedFit.apply(values, candidates, k, temperature, floor, parts)


class _FusedFit(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, values: Tensor, candidates: Tensor, k: int, temperature: float, floor: float, parts: Parts
    ) -> tuple[Tensor, Tensor, Tensor]:
        points = candidates.numpy()
        with np.errstate(all="ignore"):
            scores, scale = _standardized(values.numpy())
            logits = array_logits(scores, k, temperature)
            weights, complements = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))
            mean, std = _moments(points, weights / weights.sum(-1, keepdims=True), floor)
        mean, std, weights, *rest = map(torch.from_numpy, (mean, std, weights, complements, scores, scale))
        ctx.save_for_backward(values, candidates, mean, std, weights, *rest)
        ctx.options = k, temperature, floor
        ctx.parts = parts
        return mean, std, weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        values, candidates, *saved = ctx.saved_tensors
        if must_use_torch(grads):
            return (*gradients_by_torch(ctx.parts, (values, candidates), grads), None, None, None, None)
        arrays: Any = (each.numpy() for each in (candidates, *saved, *grads))
        with np.errstate(all="ignore"):
            of_values, of_candidates = _backward(*arrays, *ctx.options)
        return torch.from_numpy(of_values), torch.from_numpy(of_candidates), None, None, None, None


def _standardized(values: Any) -> tuple[Any, Any]:
    """Minus the values with mean 0 and variance 1 in each row, and the scale ``[B, 1]`` of their derivative.

    Each row is first shifted and scaled to [0, 1], as in `iteration.Step`.
    """
    n = values.shape[-1]
    scores = values * -0.5  # halved, so that no difference overflows
    scores -= scores.min(-1, keepdims=True)
    span = scores.max(-1, keepdims=True)
    scale = np.where(span > np.finfo(span.dtype).tiny, 1 / span, 0)
    scores *= scale
    scores -= scores.sum(-1, keepdims=True) * (1 / n)
    inverse = 1 / np.sqrt((scores * scores).sum(-1, keepdims=True) * (1 / n) + 1e-30)
    scores *= inverse
    return scores, scale * inverse * -0.5


def _moments(points: Any, shares: Any, floor: float) -> tuple[Any, Any]:
    """Mean and standard deviation ``[B, D]`` of points ``[B, N, D]``."""
    shares, first = shares[..., None], points[:, :1]
    # Summed as differences: NumPy adds rows one by one, and rounds a mean far from zero more than candidates differ.
    mean = first[:, 0] + (shares * (points - first)).sum(1)
    deviations = points - mean[:, None]
    deviations *= deviations
    deviations *= shares
    return mean, np.sqrt(np.maximum(deviations.sum(1), floor))


def _backward(
    points: Any, mean: Any, std: Any, weights: Any, complements: Any, scores: Any, scale: Any,
    mean_grad: Any, std_grad: Any, weights_grad: Any, k: int, temperature: float, floor: float,
) -> tuple[Any, Any]:  # fmt: skip
    """The formulas of the module; the gradients of values and candidates."""
    variance_grad = np.where(std > 1.000001 * floor**0.5, std_grad / (2 * std), 0)
    deviations = points - mean[:, None]
    pulls = deviations * variance_grad[:, None]
    forces = pulls + mean_grad[:, None]
    deviations *= forces
    of_weights = deviations.sum(-1) * (1 / k) + weights_grad
    slopes = weights * complements
    total = np.maximum(slopes.sum(-1, keepdims=True), np.finfo(slopes.dtype).tiny)
    of_weights -= (slopes * of_weights).sum(-1, keepdims=True) / total
    of_scores = slopes * of_weights * (1 / temperature)
    of_values = of_scores - scores * ((scores * of_scores).sum(-1, keepdims=True) * (1 / scores.shape[-1]))
    of_values *= scale
    forces += pulls
    forces *= (weights * (1 / k))[..., None]
    return of_values, forces
