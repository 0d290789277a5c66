"""The LML projection: a differentiable top-k (Amos, Koltun and Kolter 2019; section 3 of the DCEM paper).

How the root is found. Sort the scores and split them into the k largest and the rest; put the origin midway between
the two groups, in units of the temperature. With ``p`` the weights of the rest and ``q`` one minus the weights of the
top k, the weights sum to k exactly where ``sum p = sum q``. Newton's method runs on

    h(nu) = log(sum p) - log(sum q),    h'(nu) = mean of (1 - p) under p + mean of (1 - q) under q.

The rest lie below the origin and the top k above it, so ``p <= 1/2`` for ``nu <= 0`` and ``q <= 1/2`` for
``nu >= 0``: the slope of h is between 1/2 and 2 everywhere, whatever the scores. The root is in
``[-log(n - k), log k]``. Nothing cancels, as both sums hold small positive terms only. So a few steps reach the
precision of the type from any input, without a test for convergence.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.solvers.options import check_temperature, require, require_row_numbers, whole_number
from lit_dcem.solvers.ranking import is_free_to_look, nan_where_nothing_is_finite, rank_finite

try:
    import numpy as np
except ImportError:  # optional for torch and for us
    np = None

_LN_2 = math.log(2)
# Worst error of a weight after this many steps, over the stress set of tests/solvers/test_lml.py: 2e-7 and 2e-15.
_NEWTON_STEPS = {torch.float32: 4, torch.float64: 5}


def lml(scores: Float[Tensor, "*batch n"], k: int, temperature: float | Tensor = 1.0) -> Float[Tensor, "*batch n"]:
    r"""Weights of a soft top-k, ``argmax_y sum(scores * y) + temperature * H_b(y)`` over ``0 < y < 1, sum y = k``.

    .. math:: \arg\max_{0 < y < 1,\ \sum_i y_i = k} \ \sum_i s_i y_i + \tau H_b(y)

    ``H_b`` is the sum of binary entropies. The solution is ``y_i = sigmoid((scores_i + nu) / temperature)`` with the
    one ``nu`` that makes the weights sum to k. As the temperature goes to 0 the weights become the hard top-k, as it
    grows they become k / n.

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
        the weights, of the shape and type of ``scores``, differentiable any number of times in scores and temperature.

    Raises:
        TypeError: scores that are not floating point.
        ValueError: k or temperature out of range, or a temperature of the wrong shape.
    """
    k = _checked(scores, k, temperature)
    wide = scores if scores.dtype == torch.float64 else scores.float()
    if isinstance(temperature, Tensor):
        temperature = temperature.to(wide).expand(*wide.shape[:-1], 1)
    else:
        temperature = torch.full((), float(temperature), dtype=wide.dtype, device=wide.device)
    function = _Projection if torch.compiler.is_compiling() else _ForwardModeProjection
    return function.apply(wide, temperature, k)[0].to(scores.dtype)


class LML(nn.Module):
    """`lml` as a module that holds ``k`` and ``temperature``.

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
    if not scores.is_floating_point():
        raise TypeError(f"scores must be floating point, got {scores.dtype}.")
    require(scores.dim() > 0, "scores must have at least one dimension", "a scalar")
    k, n = whole_number("k", k), scores.shape[-1]
    require(1 <= k <= n, "k must be between 1 and the number of scores", k, n)
    check_temperature(temperature)
    if isinstance(temperature, Tensor):
        require_row_numbers("temperature", temperature, scores.shape[:-1])
    return k


class _Projection(torch.autograd.Function):
    """The weights and, free of rounding, one minus the weights, with their implicit derivative.

    A temperature that needs a gradient has shape ``[*batch, 1]``. Both outputs are saved, no intermediate is, so
    backward and jvp are themselves differentiable.
    """

    @staticmethod
    def forward(scores: Tensor, temperature: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores = rank_finite(scores)
        if k == scores.shape[-1]:
            return _all_of(scores)
        ordered = _sort(scores)
        centre, rest = _midpoint(ordered, k)
        # Powers of 2, because MKL computes exp and log and starts other threads even for a hundred numbers.
        distance = ordered.sub_(centre).sub_(rest).div_(temperature * _LN_2).abs_()
        nu = _newton(distance.exp2_(), k).log2_().mul_(_LN_2)
        logits = scores.sub_(centre).add_(nu * temperature - rest).div_(temperature)
        return logits.sigmoid(), logits.neg_().sigmoid_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output, inputs[1])
        ctx.save_for_forward(*output, inputs[1])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        grad = _difference(*grad_outputs)
        if grad is None:
            return None, None, None
        weights, complements, temperature = ctx.saved_tensors
        grad_scores = _jacobian_times(weights, complements, temperature, grad)
        grad_temperature = None
        if ctx.needs_input_grad[1]:
            grad_temperature = -(_logits(weights, complements) * grad_scores).sum(-1, keepdim=True)
        return grad_scores, grad_temperature, None

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: tuple[int | None, ...], scores: Tensor, temperature: Tensor, k: int
    ) -> tuple[Any, tuple[int, int]]:
        def batched(tensor: Tensor, dim: int | None) -> Tensor:
            return tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

        if temperature.dim() > 0:
            temperature = batched(temperature, in_dims[1])
        return _ForwardModeProjection.apply(batched(scores, in_dims[0]), temperature, k), (0, 0)


class _ForwardModeProjection(_Projection):
    """The same with forward-mode derivatives, which ``torch.compile`` does not trace (as of torch 2.13)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        weights, complements, temperature = ctx.saved_tensors
        direction = torch.zeros_like(weights) if tangents[0] is None else tangents[0]
        if tangents[1] is not None:
            direction = direction - _logits(weights, complements) * tangents[1]
        change = _jacobian_times(weights, complements, temperature, direction)
        return change, -change


# torch binds the arguments of forward to its signature in every call; stored, that takes half the time.
_Projection.forward.__signature__ = inspect.signature(_Projection.forward)  # pyright: ignore[reportFunctionMemberAccess]


def _all_of(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The projection for k = n: weight 1 for every finite score."""
    best = scores.amax(-1, keepdim=True)
    weights = nan_where_nothing_is_finite((scores > -math.inf).to(scores.dtype), best)
    return weights, 1 - weights


def _sort(scores: Tensor) -> Tensor:
    """Each row in ascending order. NumPy's vectorised sort is 25 times faster than torch's on CPU rows of 100."""
    if np is not None and is_free_to_look(scores):
        return torch.from_numpy(np.sort(scores.numpy(), axis=-1))
    return scores.sort(-1).values


def _midpoint(ordered: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The point midway between the k-th and the next score, ``[*batch, 1]``, and its rounding error.

    Kept as a sum of two so that scores with a large common offset lose nothing: score - midpoint is exact nearby.
    A missing next score counts as the lowest finite number, which puts all the weight on the others.
    """
    n = ordered.shape[-1]
    pair = ordered[..., n - k - 1 : n - k + 1].clamp_min(torch.finfo(ordered.dtype).min)
    centre = nan_where_nothing_is_finite((pair * 0.5).sum(-1, keepdim=True), ordered[..., -1:])
    return centre, (pair - centre).sum(-1, keepdim=True) * 0.5


def _newton(odds: Tensor, k: int) -> Tensor:
    """``exp(nu)``, ``[*batch, 1]``, at the root of h (see the module docstring).

    ``odds [*batch, n]`` holds ``exp(|score - midpoint| / temperature)`` in the order of the scores. It is changed.
    With ``root = exp(nu)``: ``p = root / (odds + root)``, ``q = 1 / (1 + odds * root)``; `_tail` leaves out the
    numerators, which come back in the slope and the ratio of the two sums.
    """
    n = odds.shape[-1]
    # The two scores next to the midpoint keep both sums above zero when all the others overflow.
    odds[..., n - k - 1 : n - k + 1].clamp_(max=0.01 * math.sqrt(torch.finfo(odds.dtype).max))
    below, above = odds[..., : n - k], odds[..., n - k :]
    root = torch.ones_like(odds[..., :1])
    minus_two = torch.full_like(root, -2)
    for _ in range(_NEWTON_STEPS[odds.dtype]):
        inverse = root.reciprocal()
        p_sum, p_share = _tail(below, root)
        q_sum, q_share = _tail(above, inverse)
        minus_slope = torch.addcmul(minus_two, p_share, root).addcmul_(q_share, inverse)
        ratio = p_sum.div_(q_sum).mul_(root).mul_(root)
        root = root.mul_(ratio.pow_(minus_slope.reciprocal_())).clamp_(1 / (n - k), k)
    return root


def _tail(odds: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of ``t = 1 / (odds + root)``, and the mean of t under t, each ``[*batch, 1]``."""
    terms = (odds + root).reciprocal_()
    total = terms.sum(-1, keepdim=True)
    norm = torch.linalg.vector_norm(terms, dim=-1, keepdim=True)
    return total, norm.square_().div_(total)


def _jacobian_times(weights: Tensor, complements: Tensor, temperature: Tensor, vector: Tensor) -> Tensor:
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
