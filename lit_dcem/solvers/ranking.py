"""Order among scores of which some may be broken, and the hard top-k."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def hard_top_k(scores: Float[Tensor, "*batch n"], k: int) -> Float[Tensor, "*batch n"]:
    """The limit of `lml` as the temperature goes to 0: weight 1 for the k largest finite scores. No gradient.

    Raises:
        ValueError: a row without a finite score (see `require_finite`).
    """
    best = rank_finite(scores.detach()).topk(k, -1)
    require_finite(best.values[..., :1])
    return torch.zeros_like(scores).scatter(-1, best.indices, (best.values > -math.inf).to(scores.dtype))


def rank_finite(scores: Tensor) -> Tensor:
    """`scores` with every broken (NaN or infinite) one at minus infinity, below all the others."""
    return torch.nan_to_num(scores, nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def require_finite(best_scores: Tensor) -> None:
    """Raise if the best score of a row (of `rank_finite`) says that nothing in it is finite.

    Looks only where looking costs nothing: on the CPU in eager mode.
    """
    if is_free_to_look(best_scores) and best_scores.numel() and best_scores.amin().item() == -math.inf:
        broken = int((best_scores == -math.inf).sum())
        raise ValueError(f"Every row needs at least one finite score, got {broken} of {best_scores.numel()} without.")


def is_free_to_look(tensor: Tensor) -> bool:
    """Whether reading a value costs nothing: not from an accelerator's stream, and not while a graph is traced."""
    if torch.compiler.is_compiling() or tensor.device.type != "cpu":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
