"""The root behind `lml`: the number that makes the weights of a soft top-k sum to k.

How it is found. Sort the scores and split them into the k largest and the rest; put the origin midway between the
two groups, in units of the temperature. With ``p`` the weights of the rest and ``q`` one minus the weights of the
top k, the weights sum to k exactly where ``sum p = sum q``. Newton's method runs on

    h(nu) = log(sum p) - log(sum q),    h'(nu) = mean of (1 - p) under p + mean of (1 - q) under q.

The rest lie below the origin and the top k above it, so ``p <= 1/2`` for ``nu <= 0`` and ``q <= 1/2`` for
``nu >= 0``: the slope of h is between 1/2 and 2 everywhere, whatever the scores. The root is in
``[-log(n - k), log k]``. Nothing cancels, as both sums hold small positive terms only. So a few steps reach the
precision of the type from any input, without a test for convergence.

On a CPU in eager mode the same formulas run on NumPy arrays, where a call costs a third of one to torch: calls are most
of the time of a hundred scores. One to three rows are solved one by one, with sums that are Python floats.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lit_dcem.solvers.arrays import np
from lit_dcem.solvers.ranking import is_free_to_look, rank_finite

# Worst error of a weight after this many steps, over the stress set of tests/solvers/test_lml.py: 2e-7 and 2e-15.
_NEWTON_STEPS = {4: 4, 8: 5}
"""by the bytes of a number"""
_MOST_NUMBERS = 2**17
"""for NumPy; torch is faster for more"""
_FEW_ROWS = 3
"""of which each costs less by itself than all do together"""
Array = Any
"""a tensor or a NumPy array"""


def logits_of(scores: Tensor, k: int, temperature: float | Tensor) -> Tensor:
    """``(scores + nu) / temperature``, whose sigmoids sum to k < n in each row; minus infinity where a score is broken.

    NaN in a row without a finite score. No gradient.
    """
    is_free = np is not None and is_free_to_look(scores)
    if not is_free or scores.numel() > _MOST_NUMBERS:
        scores = rank_finite(scores)
        # NumPy's vectorised sort is 25 times faster than torch's on CPU rows of 100.
        ordered = torch.from_numpy(np.sort(scores.numpy())) if is_free else scores.sort(-1).values
        return _logits(torch, scores, ordered, k, temperature)
    array = scores.numpy()
    units = temperature.detach().numpy() if isinstance(temperature, Tensor) else temperature
    with np.errstate(all="ignore"):  # odds may be infinite
        return torch.from_numpy(array_logits(np.where(np.isfinite(array), array, -math.inf), k, units))


def array_logits(scores: Array, k: int, temperature: float | Array) -> Array:
    """The same of a NumPy array, in which minus infinity marks broken scores; NumPy warns where odds are infinite."""
    rows = scores.reshape(-1, scores.shape[-1])
    if len(rows) > _FEW_ROWS:
        return _logits(np, scores, np.sort(scores), k, temperature)
    is_one = isinstance(temperature, (int, float))
    temperatures = [temperature] * len(rows) if is_one else temperature.ravel().tolist()
    logits = np.empty_like(rows)
    for i, each in enumerate(temperatures):
        logits[i] = _logits_of_row(rows[i], k, each)
    return logits.reshape(scores.shape)


def _logits_of_row(scores: Array, k: int, temperature: float) -> Array:
    """The logits of one row of a NumPy array; `_logits` in fewer calls."""
    n, number = len(scores), np.finfo(scores.dtype)
    ordered = np.sort(scores)
    if ordered[-1] == -math.inf:
        return np.full_like(scores, math.nan)
    low, high = (max(each, float(number.min)) for each in ordered[n - k - 1 : n - k + 1].tolist())
    half_gap = high / 2 - low / 2
    odds = np.exp(np.abs(ordered - high + half_gap) / temperature)
    np.minimum(odds[n - k - 1 : n - k + 1], _most(number), out=odds[n - k - 1 : n - k + 1])
    root = _newton_of_row(odds[: n - k], odds[n - k :], float(number.eps))
    return (scores - high + (half_gap + math.log(root) * temperature)) / temperature


def _newton_of_row(below: Array, above: Array, eps: float) -> float:
    """`_newton` of one row, up to the precision ``eps``."""
    root = 1.0
    for _ in range(_NEWTON_STEPS[below.itemsize]):
        p_sum, p_share = _tail_of_row(below, root)
        q_sum, q_share = _tail_of_row(above, 1 / root)
        factor = (p_sum / q_sum * root * root) ** (1 / (p_share + q_share - 2))
        root = min(max(root * factor, 1 / len(below)), float(len(above)))
        if abs(factor - 1) < 0.3 * math.sqrt(eps):  # each step squares the error
            break
    return root


def _tail_of_row(odds: Array, root: float) -> tuple[float, float]:
    terms = odds + root
    np.reciprocal(terms, out=terms)
    total = float(terms.sum())
    return total, float(terms.dot(terms)) * root / total


def _logits(lib: Any, scores: Array, ordered: Array, k: int, temperature: float | Array) -> Array:
    """The logits, by torch or NumPy (``lib``)."""
    centre, rest = _midpoint(lib, ordered, k)
    nu = lib.log(_newton(lib, lib.exp(lib.abs(ordered - centre - rest) / temperature), k))
    return (scores - centre + (nu * temperature - rest)) / temperature


def _midpoint(lib: Any, ordered: Array, k: int) -> tuple[Array, Array]:
    """The point midway between the k-th and the next score, ``[*batch, 1]``, and its rounding error.

    Kept as a sum of two so that scores with a large common offset lose nothing: score - midpoint is exact nearby.
    A missing next score counts as the lowest finite number, which puts all the weight on the others.
    """
    n = ordered.shape[-1]
    lowest = lib.finfo(ordered.dtype).min
    low, high = (ordered[..., i : i + 1].clip(lowest) for i in (n - k - 1, n - k))
    centre = lib.where(ordered[..., -1:] > -math.inf, low * 0.5 + high * 0.5, math.nan)
    return centre, ((low - centre) + (high - centre)) * 0.5


def _newton(lib: Any, odds: Array, k: int) -> Array:
    """``exp(nu)``, ``[*batch, 1]``, at the root of h (see the module docstring).

    ``odds [*batch, n]`` holds ``exp(|score - midpoint| / temperature)`` in the order of the scores. It is changed.
    With ``root = exp(nu)``: ``p = root / (odds + root)``, ``q = 1 / (1 + odds * root)``; `_tail` leaves out the
    numerators, which come back in the slope and the ratio of the two sums.
    """
    n = odds.shape[-1]
    # The two scores next to the midpoint keep both sums above zero when all the others overflow.
    most = _most(lib.finfo(odds.dtype))
    odds[..., n - k - 1 : n - k + 1] = odds[..., n - k - 1 : n - k + 1].clip(None, most)
    below, above = odds[..., : n - k], odds[..., n - k :]
    root = lib.ones_like(odds[..., :1])
    for _ in range(_NEWTON_STEPS[odds.dtype.itemsize]):
        inverse = 1 / root
        p_sum, p_share = _tail(below, root)
        q_sum, q_share = _tail(above, inverse)
        ratio = p_sum * root * root / q_sum
        root = (root * ratio ** (1 / (p_share + q_share - 2))).clip(1 / (n - k), k)
    return root


def _most(number: Any) -> float:
    return 0.01 * math.sqrt(number.max)


def _tail(odds: Array, root: Array) -> tuple[Array, Array]:
    """Sum of ``t = 1 / (odds + root)``, and the mean of ``root * t`` under t, each ``[*batch, 1]``."""
    terms = odds + root
    terms = 1 / terms
    total = terms.sum(-1)[..., None]
    terms *= terms
    return total, terms.sum(-1)[..., None] * root / total
