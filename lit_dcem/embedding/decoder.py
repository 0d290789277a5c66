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
"""share of an action's range next to each bound where logits are clamped, as they are infinite at the bound"""


class ActionDecoder(nn.Module):
    r"""Multi-layer perceptron from z to H actions of A numbers, squashed to their bounds l and u by a sigmoid.

    .. math:: \mathrm{actions}(z) = l + (u - l)\, \mathrm{sigmoid}(\mathrm{MLP}(z))

    Weights start as N(0, (init_scale * 2 / sqrt(fan_in + fan_out))^2), biases at 0. With ``init_scale=1`` an untrained
    decoder hardly leaves the middle of the bounds (figure 7).

    Two options go beyond the paper. With a condition, such as the state that a plan starts from, z = 0 decodes to the
    actions of a learned policy, which a search improves. With ``blends_rest`` the last number of z is the weight of
    the rest of the last plan: at 0 or less the plan is the network's, at 1 it is the rest of the last plan, and in
    between the logits are interpolated. The next search can therefore always find the rest of the last plan.

    Args:
        latent_dim: size of z.
        horizon: H, steps of the sequence.
        action_dim: A, numbers in an action.
        hidden_dim: width of the hidden layers (paper: 256).
        num_layers: number of hidden layers (paper: 3).
        activation: "elu" (paper), "relu" or "tanh".
        init_scale: scale of the initial weights, alpha of figure 7.
        bias: whether layers have a bias; without one, z = 0 decodes to the middle of the bounds (with no condition).
        lower: bound of every number, or one for each of the A (paper's cartpole: -100 and 100 N).
        upper: as ``lower``.
        condition_dim: size of the condition, a second input of the decoder; 0 for none (paper).
        blends_rest: use the last number of z as the weight of the rest of the last plan.

    Raises:
        ValueError: a size, an activation, a scale or a bound is out of range.
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
        if condition_dim:  # the first layer's weights for the condition, as if z and the condition were concatenated
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
            condition: broadcasts to the batch of z; required if ``condition_dim`` is above 0, else forbidden.
            rest: rest of the last plan, shifted by one step, within the bounds; broadcasts to the batch of z. Where it
                is missing or NaN, the plan is the network's.

        Raises:
            ValueError: the condition does not have the size ``condition_dim``.
        """
        return self.squash(self.logits(latent, condition, rest))

    def logits(
        self,
        latent: Float[Tensor, "*batch latent_dim"],
        condition: Float[Tensor, "*some_batch condition_dim"] | None = None,
        rest: Float[Tensor, "*some_batch horizon action_dim"] | None = None,
    ) -> Float[Tensor, "*batch horizon action_dim"]:
        """Logits that `squash` maps to actions: 0 is the middle of the bounds, and beyond +-4 actions saturate."""
        self._check_condition(condition)
        weights = next((each.dtype for each in self.layers.parameters()), latent.dtype)  # a search may have another
        own = latent[..., : latent.shape[-1] - self.blends_rest].to(weights)
        first = self.layers[0](own)
        if condition is not None:
            first = first + self.condition(condition.to(own.dtype))
        logits = self.layers[1:](first).unflatten(-1, (self.horizon, self.action_dim))
        if rest is None or not self.blends_rest:
            return logits
        unknown = rest.isnan()  # masked before the product: 0 * NaN has a NaN gradient
        share = latent[..., -1, None, None].clamp(0, 1).masked_fill(unknown, 0).to(logits.dtype)
        return torch.lerp(logits, self.unsquash(rest.nan_to_num()).to(logits.dtype), share)

    def squash(self, logits: Float[Tensor, "*batch horizon action_dim"]) -> Float[Tensor, "*batch horizon action_dim"]:
        """Actions within the bounds, from logits."""
        return torch.lerp(self.lower, self.upper, logits.to(self.lower.dtype).sigmoid())

    def unsquash(self, actions: Float[Tensor, "*b horizon action_dim"]) -> Float[Tensor, "*b horizon action_dim"]:
        """Logits of actions, the inverse of `squash`. Actions at a bound count as slightly inside it."""
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
