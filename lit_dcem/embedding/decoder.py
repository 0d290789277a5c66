"""A decoder from a latent vector to a sequence of actions within bounds (section 5.2 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, pairwise, repeat
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh}


EDGE = 1e-4
"""share of the range of an action that counts as its bound, where its logit would be infinite"""


class ActionDecoder(nn.Module):
    """Multi-layer perceptron from z to H actions of A numbers, squashed to their bounds by a sigmoid.

    Weights start as N(0, (init_scale * 2 / sqrt(fan_in + fan_out))^2), biases at 0. With ``init_scale=1`` an untrained
    decoder hardly leaves the middle of the bounds (figure 7).

    Two options go beyond the paper. With a condition, such as the state that a plan starts from, the plan of z = 0 is
    a policy's, and a search improves it. With ``blends_rest`` the last number of z is the share of the rest of the
    last plan: at 0 or less the network decides alone, at 1 the plan is that rest, and between the two they are mixed,
    before they are squashed. So a plan that is a step older is always in the space that the next search covers.

    Args:
        latent_dim: size of z.
        horizon: H, steps of the sequence.
        action_dim: A, numbers in an action.
        hidden_dim: width of the hidden layers (paper: 256).
        num_layers: number of hidden layers (paper: 3).
        activation: "elu" (paper), "relu" or "tanh".
        init_scale: alpha of figure 7.
        bias: whether layers have one; without, z = 0 is the middle of the bounds.
        lower: bound of every number, or one for each of the A (paper's cartpole: -100 and 100 N).
        upper: as ``lower``.
        condition_dim: size of what the decoder sees beside z; 0: nothing (paper).
        blends_rest: let the last number of z mix in the rest of the last plan, where there is one.

    Raises:
        ValueError: a size, an activation, a scale or bounds that cannot be.
    """

    lower: Tensor
    upper: Tensor

    def __init__(
        self,
        latent_dim: int,
        horizon: int,
        action_dim: int = 1,
        hidden_dim: int = 256,
        num_layers: int = 3,
        activation: Literal["elu", "relu", "tanh"] = "elu",
        init_scale: float = 1.0,
        bias: bool = True,
        lower: float | Sequence[float] = -1.0,
        upper: float | Sequence[float] = 1.0,
        condition_dim: int = 0,
        blends_rest: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"latent_dim": latent_dim, "horizon": horizon, "action_dim": action_dim}
        _check(activation, init_scale, **sizes, hidden_dim=hidden_dim, num_layers=num_layers)
        if condition_dim < 0 or (blends_rest and latent_dim < 2):
            rule = "condition_dim must be at least 0, and latent_dim at least 2 with blends_rest"
            raise ValueError(f"{rule}, got {condition_dim} and {latent_dim}.")
        self.latent_dim, self.horizon, self.action_dim = latent_dim, horizon, action_dim
        self.condition_dim, self.blends_rest = condition_dim, blends_rest
        for name, bound in _bounds(lower, upper, action_dim).items():
            self.register_buffer(name, bound, persistent=False)
        own = latent_dim - blends_rest
        widths = chain([own], repeat(hidden_dim, num_layers))
        hidden = [(_linear(a, b, init_scale, bias), ACTIVATIONS[activation]()) for a, b in pairwise(widths)]
        last = _linear(hidden_dim, horizon * action_dim, init_scale, bias)
        self.layers = nn.Sequential(*[layer for pair in hidden for layer in pair], last)
        if condition_dim:  # what the first layer would be multiplied by, if z and the condition were one vector
            self.condition = _linear(condition_dim, hidden_dim, init_scale, bias=False)

    def forward(
        self,
        latent: Float[Tensor, "*batch latent_dim"],
        condition: Float[Tensor, "*some_batch condition_dim"] | None = None,
        rest: Float[Tensor, "*some_batch horizon action_dim"] | None = None,
    ) -> Float[Tensor, "*batch horizon action_dim"]:
        """Actions of each latent vector.

        Args:
            latent: z.
            condition: broadcasts to the batch of z; there must be one if, and only if, the decoder takes one.
            rest: of the last plan, moved on by a step, within the bounds; broadcasts to the batch of z. Without it, and
                where it is NaN, the network decides alone.

        Raises:
            ValueError: a condition that is missing, not wanted, or of another size.
        """
        return self.squash(self.logits(latent, condition, rest))

    def logits(
        self,
        latent: Float[Tensor, "*batch latent_dim"],
        condition: Float[Tensor, "*some_batch condition_dim"] | None = None,
        rest: Float[Tensor, "*some_batch horizon action_dim"] | None = None,
    ) -> Float[Tensor, "*batch horizon action_dim"]:
        """What is squashed to actions: 0 is the middle of the bounds, beyond 4 in size little changes."""
        self._check_condition(condition)
        own = latent[..., : latent.shape[-1] - self.blends_rest]
        first = self.layers[0](own)
        if condition is not None:
            first = first + self.condition(condition.to(own.dtype))
        logits = self.layers[1:](first).unflatten(-1, (self.horizon, self.action_dim))
        if rest is None or not self.blends_rest:
            return logits
        unknown = rest.isnan()  # masked before it is multiplied, since 0 times NaN is a gradient of NaN
        share = latent[..., -1, None, None].clamp(0, 1).masked_fill(unknown, 0)
        return torch.lerp(logits, self.unsquash(rest.nan_to_num()).to(logits.dtype), share)

    def squash(self, logits: Float[Tensor, "*batch horizon action_dim"]) -> Float[Tensor, "*batch horizon action_dim"]:
        """Numbers of any size to actions within the bounds."""
        return torch.lerp(self.lower, self.upper, logits.to(self.lower.dtype).sigmoid())

    def unsquash(self, actions: Float[Tensor, "*b horizon action_dim"]) -> Float[Tensor, "*b horizon action_dim"]:
        """What `squash` makes these actions of; those at the bounds are taken a little from within."""
        share = (actions - self.lower) / (self.upper - self.lower)
        return share.clamp(EDGE, 1 - EDGE).logit()

    def _check_condition(self, condition: Tensor | None) -> None:
        size = 0 if condition is None else condition.shape[-1]
        if size != self.condition_dim:
            raise ValueError(f"condition must have the {self.condition_dim} numbers of condition_dim, got {size}.")


def _linear(fan_in: int, fan_out: int, scale: float, bias: bool) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out, bias)
    nn.init.normal_(layer.weight, std=scale * 2 / math.sqrt(fan_in + fan_out))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _check(activation: str, init_scale: float, **sizes: int) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation}.")
    if not 0 < init_scale < math.inf:
        raise ValueError(f"init_scale must be positive and finite, got {init_scale}.")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")


def _bounds(lower: float | Sequence[float], upper: float | Sequence[float], action_dim: int) -> dict[str, Tensor]:
    bounds = {"lower": lower, "upper": upper}
    tensors = {name: torch.as_tensor(bound, dtype=torch.get_default_dtype()) for name, bound in bounds.items()}
    for name, tensor in tensors.items():
        if tensor.shape not in ((), (1,), (action_dim,)):
            raise ValueError(f"{name} must be one number or one for each of {action_dim}, got {bounds[name]}.")
    if not (tensors["lower"] < tensors["upper"]).all() or not all(t.isfinite().all() for t in tensors.values()):
        raise ValueError(f"lower must be below upper and both finite, got {lower} and {upper}.")
    return {name: tensor.expand(action_dim).clone() for name, tensor in tensors.items()}
