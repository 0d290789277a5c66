"""Ranking of scores, some of which may be broken, and the hard top-k."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def hard_top_k(scores: Float[Tensor, "*batch n"], k: int) -> Float[Tensor, "*batch n"]:
    """The limit of `lml` as the temperature goes to 0: weight 1 for the k largest finite scores. No gradient.

    Broken scores are handled as in `lml`: if a row has fewer than k finite ones, each of them gets weight 1; a row
    without any is NaN.
    """
    best = rank_finite(scores.detach()).topk(k, -1)
    weights = torch.zeros_like(scores).scatter(-1, best.indices, (best.values > -math.inf).to(scores.dtype))
    return nan_where_nothing_is_finite(weights, best.values[..., :1])


def rank_finite(scores: Tensor) -> Tensor:
    """`scores` with every broken one (NaN or infinite) replaced by minus infinity."""
    return torch.nan_to_num(scores, nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def finite_rows(rows: Float[Tensor, "batch n"]) -> Bool[Tensor, " batch"]:
    """Where all numbers of a row are finite."""
    return rows.isfinite().all(1)


def nan_where_nothing_is_finite(rows: Tensor, best_scores: Tensor) -> Tensor:
    """`rows`, with NaN where the best score (of `rank_finite`) is minus infinity: no score of the row is finite."""
    if is_free_to_look(best_scores) and not (best_scores.numel() and best_scores.amin().item() == -math.inf):
        return rows
    return torch.where(best_scores > -math.inf, rows, math.nan)


def is_free_to_look(tensor: Tensor) -> bool:
    """Whether reading a value is free: it is on the CPU in eager mode, not on accelerators or in traced graphs."""
    if torch.compiler.is_compiling() or tensor.device.type != "cpu":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
