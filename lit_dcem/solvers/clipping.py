"""A bound on the gradient that goes through a search."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def clip_gradient(values: Float[Tensor, "*batch n"], max_norm: float) -> Float[Tensor, "*batch n"]:
    """The values as they are; in the backward pass, the gradient of each row is shortened to a norm of ``max_norm``.

    A gradient that is no longer than that stays as it is. Forward-mode derivatives are those of the identity.
    """
    function = _Clip if torch.compiler.is_compiling() else _ForwardModeClip
    return function.apply(values, float(max_norm))  # pyright: ignore[reportReturnType]


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor, max_norm: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.max_norm = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        largest = grad.abs().amax(-1, keepdim=True)  # so that no square overflows
        largest = torch.where(largest > 0, largest, 1)
        norm = largest * torch.linalg.vector_norm(grad / largest, dim=-1, keepdim=True)
        return grad * (ctx.max_norm / norm.clamp_min(ctx.max_norm)), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], values: Tensor, max_norm: float) -> tuple[Tensor, int]:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert in_dims[0] is not None  # only values are batched
        return _ForwardModeClip.apply(values.movedim(in_dims[0], 0), max_norm), 0  # pyright: ignore[reportReturnType]


class _ForwardModeClip(_Clip):
    """The same with forward-mode derivatives, which ``torch.compile`` does not trace (as of torch 2.13)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tangents[0].clone()
