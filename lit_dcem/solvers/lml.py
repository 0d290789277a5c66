"""The LML projection: a differentiable top-k (Amos, Koltun and Kolter 2019; section 3 of the DCEM paper)."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.solvers.options import check_temperature, require, require_row_numbers, whole_number
from lit_dcem.solvers.ranking import nan_where_nothing_is_finite, rank_finite
from lit_dcem.solvers.root import logits_of


def lml(scores: Float[Tensor, "*batch n"], k: int, temperature: float | Tensor = 1.0) -> Float[Tensor, "*batch n"]:
    r"""Weights of a soft top-k, ``argmax_y sum(scores * y) + temperature * H_b(y)`` over ``0 < y < 1, sum y = k``.

    .. math:: \arg\max_{0 < y < 1,\ \sum_i y_i = k} \ \sum_i s_i y_i + \tau H_b(y)

    ``H_b`` is the sum of binary entropies. With the one ``nu`` that makes the weights sum to k, the solution is

    .. math:: y_i = \sigma\left(\frac{s_i + \nu}{\tau}\right), \qquad \sigma(a) = \frac{1}{1 + e^{-a}}

    As the temperature goes to 0 the weights become the hard top-k, as it grows they become k / n.

    A score that is NaN or infinite (of either sign) marks a broken candidate, which gets weight 0 and gradient 0. If a
    row has fewer than k finite scores, each of them gets weight 1. A row without a finite score becomes NaN; other rows
    are not affected, and a loss that leaves the row out has gradient 0 there.

    Args:
        scores: any number of leading dimensions; larger scores get larger weights. Half precision is computed in
            float32.
        k: sum of the weights, from 1 to n.
        temperature: positive; a tensor must broadcast against ``[*batch, 1]`` (one temperature a row at most). Its
            values are checked on the CPU in eager mode only.

    Returns:
        the weights, of the shape and type of ``scores``, differentiable any number of times in scores and temperature,
        but at most once in forward mode: torch takes a tangent of a tangent for 0 (as of 2.13).

    Raises:
        TypeError: scores that are not floating point.
        ValueError: k or temperature out of range, or a temperature of the wrong shape.
    """
    k = _checked(scores, k, temperature)
    wide = scores if scores.dtype == torch.float64 else scores.float()
    if isinstance(temperature, Tensor):
        temperature = temperature.to(wide).expand(*wide.shape[:-1], 1)
    else:
        temperature = float(temperature)
    return _function().apply(wide, temperature, k)[0].to(scores.dtype)


class LML(nn.Module):
    r"""`lml` as a module that holds ``k`` and ``temperature``.

    .. math:: y_i = \sigma\left(\frac{s_i + \nu}{\tau}\right), \qquad \sum_i y_i = k

    Raises:
        ValueError: k or temperature out of range.
    """

    def __init__(self, k: int, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        self.k = whole_number("k", k)
        require(self.k >= 1, "k must be at least 1", k)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, scores: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        return lml(scores, self.k, self.temperature)

    def extra_repr(self) -> str:
        return f"k={self.k}, temperature={self.temperature}"


def _checked(scores: Tensor, k: int, temperature: float | Tensor) -> int:
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        got = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
        raise TypeError(f"scores must be a floating point tensor, got {got}.")
    require(scores.dim() > 0, "scores must have at least one dimension", "a scalar")
    k, n = whole_number("k", k), scores.shape[-1]
    require(1 <= k <= n, "k must be between 1 and the number of scores", k, n)
    check_temperature(temperature)
    if isinstance(temperature, Tensor):
        require_row_numbers("temperature", temperature, scores.shape[:-1])
    return k


class _Projection(torch.autograd.Function):
    """The weights and, free of rounding, one minus the weights, with their implicit derivative.

    The temperature is a number or has shape ``[*batch, 1]``. Both outputs are saved, no intermediate is, so
    backward and jvp are themselves differentiable.
    """

    @staticmethod
    def forward(scores: Tensor, temperature: float | Tensor, k: int) -> tuple[Tensor, Tensor]:
        if k == scores.shape[-1]:
            return _all_of(rank_finite(scores))
        logits = logits_of(scores, k, temperature)
        return logits.sigmoid(), logits.neg_().sigmoid_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float | Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        temperature = inputs[1]
        ctx.number = None if isinstance(temperature, Tensor) else temperature
        kept = (*output, temperature) if isinstance(temperature, Tensor) else output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        grad = _difference(*grad_outputs)
        if grad is None:
            return None, None, None
        weights, complements, temperature = _saved(ctx)
        grad_scores = _jacobian_times(weights, complements, temperature, grad)
        grad_temperature = None
        if ctx.needs_input_grad[1]:
            grad_temperature = -(_logits(weights, complements) * grad_scores).sum(-1, keepdim=True)
        return grad_scores, grad_temperature, None

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: tuple[int | None, ...], scores: Tensor, temperature: float | Tensor, k: int
    ) -> tuple[Any, tuple[int, int]]:
        def batched(tensor: Tensor, dim: int | None) -> Tensor:
            return tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

        if isinstance(temperature, Tensor):
            temperature = batched(temperature, in_dims[1])
        return _ForwardModeProjection.apply(batched(scores, in_dims[0]), temperature, k), (0, 0)


class _ForwardModeProjection(_Projection):
    """The same with forward-mode derivatives, which ``torch.compile`` does not trace (as of torch 2.13)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        weights, complements, temperature = _saved(ctx)
        direction = torch.zeros_like(weights) if tangents[0] is None else tangents[0]
        if tangents[1] is not None:
            direction = direction - _logits(weights, complements) * tangents[1]
        change = _jacobian_times(weights, complements, temperature, direction)
        return change, -change


# torch binds the arguments of forward to its signature in every call; stored, that takes half the time.
_Projection.forward.__signature__ = inspect.signature(_Projection.forward)  # pyright: ignore[reportFunctionMemberAccess]


class _EagerProjection(_ForwardModeProjection):
    """The same in torch's older form, which ``torch.func`` does not transform, but whose calls cost less."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, temperature: float | Tensor, k: int) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        output = _Projection.forward(scores, temperature, k)
        _Projection.setup_context(ctx, (scores, temperature, k), output)
        return output

    setup_context = torch.autograd.Function.setup_context


def _function() -> type[_Projection]:
    if torch.compiler.is_compiling():
        return _Projection
    is_transformed = torch._C._are_functorch_transforms_active()  # pyright: ignore[reportAttributeAccessIssue]
    return _ForwardModeProjection if is_transformed else _EagerProjection


def _saved(ctx: Any) -> tuple[Tensor, Tensor, float | Tensor]:
    weights, complements, *temperature = ctx.saved_tensors
    return weights, complements, temperature[0] if temperature else ctx.number


def _all_of(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The projection for k = n: weight 1 for every finite score."""
    best = scores.amax(-1, keepdim=True)
    weights = nan_where_nothing_is_finite((scores > -math.inf).to(scores.dtype), best)
    return weights, 1 - weights


def _jacobian_times(weights: Tensor, complements: Tensor, temperature: float | Tensor, vector: Tensor) -> Tensor:
    """The (symmetric) Jacobian of the weights in the scores times a vector: ``s / temperature * (v - mean_s v)``.

    Zero in a row of NaN, so that a loss which leaves the row out has no NaN in its gradient.
    """
    slope = torch.nan_to_num(weights * complements / temperature)
    total = slope.sum(-1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
    share = slope * vector
    return torch.addcmul(share, slope, share.sum(-1, keepdim=True) / total, value=-1)


def _logits(weights: Tensor, complements: Tensor) -> Tensor:
    """``(score + nu) / temperature``, recovered from the weights; finite, as saturated ones have no share in sums."""
    tiny = torch.finfo(weights.dtype).tiny
    return torch.nan_to_num(weights.clamp_min(tiny).log() - complements.clamp_min(tiny).log())


def _difference(grad_weights: Tensor | None, grad_complements: Tensor | None) -> Tensor | None:
    if grad_weights is None or grad_complements is None:
        return grad_weights if grad_complements is None else -grad_complements
    return grad_weights - grad_complements
