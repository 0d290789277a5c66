"""Planning over latent vectors that a decoder turns into actions."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.knots import Knots
from lit_dcem.solvers.options import require
from lit_dcem.solvers.prediction import State


@runtime_checkable
class Decoder(Protocol):
    """What a `Planner` asks of a decoder; `ActionDecoder` is one."""

    latent_dim: int
    """Z, size of a latent vector"""
    horizon: int
    """H, actions of a plan"""
    action_dim: int
    """A, numbers in an action"""
    condition_dim: int
    """S, numbers in the state that it sees as a condition; 0 for none"""

    def __call__(self, latent: Tensor, condition: Tensor | None = None, /) -> Any:
        """Actions ``[..., H, A]`` of latent vectors ``[..., Z]``; the condition ``[..., S]`` broadcasts to them."""
        ...


def check_decoder(decoder: Decoder, knots: Knots, action_dim: int, has_proposals: bool) -> None:
    """Raise a ValueError for a decoder that does not fit the other options of a planner."""
    require(isinstance(decoder, Decoder), "A decoder must have the sizes of ActionDecoder", type(decoder).__name__)
    sizes = decoder.horizon, decoder.action_dim
    rule = f"A decoder must have the planner's horizon and action_dim, {knots.horizon} and {action_dim}"
    require(sizes == (knots.horizon, action_dim), rule, *sizes)
    require(knots.num_knots == knots.horizon, "A planner with a decoder must have no knots", knots.num_knots)
    require(not has_proposals, "A planner with a decoder must have no proposals", "some")
    blends = getattr(decoder, "blends_rest", False)
    require(not blends, "The decoder of a Planner must not blend in the rest of a plan", f"blends_rest={blends}")


def actions_of(
    decoder: Decoder, state: State, points: Float[Tensor, "batch *candidates latent"]
) -> Float[Tensor, "batch *candidates horizon action"]:
    """The actions of latent vectors, of which a decoder with a condition sees the states ``[B, S]``, too.

    Raises:
        ValueError: a decoder with a condition, and states that are not one tensor ``[B, S]``.
    """
    if decoder.condition_dim == 0:
        return decoder(points)
    rule = f"A decoder with a condition needs states that are a tensor [B, {decoder.condition_dim}]"
    fits = isinstance(state, Tensor) and state.shape[1:] == torch.Size([decoder.condition_dim])
    require(fits, rule, list(state.shape) if isinstance(state, Tensor) else type(state).__name__)
    return decoder(points, state if points.dim() == 2 else state.unsqueeze(1))
