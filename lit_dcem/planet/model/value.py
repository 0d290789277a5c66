"""Value networks on the belief of a world model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.mlp import MLP


class ValueHead(nn.Module):
    """Expected discounted sum of the rewards that follow a belief (section 5.3 of the paper: the value of PPO).

    Args:
        deter_dim: size of h, as in the world model (paper: 200).
        stoch_dim: size of x, as in the world model (paper: 30).
        hidden_dim: width of the hidden layers.
        num_layers: how many.
        scale: what the network's output is multiplied by, about the size of the values: a network that starts near 0
            and learns at 1e-3 takes thousands of steps to get to 100.
    """

    def __init__(
        self,
        deter_dim: int = 200,
        stoch_dim: int = 30,
        hidden_dim: int = 200,
        num_layers: int = 2,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if min(deter_dim, stoch_dim, hidden_dim) < 1 or num_layers < 0 or not 0 < scale < float("inf"):
            rule = "Sizes of a value network must be at least 1, num_layers at least 0, scale positive and finite"
            raise ValueError(f"{rule}, got {deter_dim}, {stoch_dim}, {hidden_dim}, {num_layers} and {scale}.")
        self.scale = scale
        self.layers = MLP(deter_dim + stoch_dim, hidden_dim, num_layers, 1)

    def forward(self, belief: Belief) -> Float[Tensor, "*batch"]:
        """The value of each belief."""
        return self.scale * self.layers(torch.cat(belief, -1)).squeeze(-1)

    @torch.no_grad()
    def rescale(self, scale: float) -> None:
        """Take weights for those of a network with another scale."""
        *_, last = (module for module in self.layers.modules() if isinstance(module, nn.Linear))
        for parameter in last.parameters():
            parameter.mul_(scale / self.scale)


class ValueEnsemble(nn.Module):
    """Several value networks, of which a planner counts the least at the end of its horizon (`ModelPlanner`).

    A search goes where a network errs upwards; where it has seen little, others err another way. ``weight`` says how
    much the planner counts of it: 0 at first, and set by who trains it, as far as it predicts what it has not seen.

    Args:
        deter_dim: size of h, as in the world model.
        stoch_dim: size of x, as in the world model.
        hidden_dim: width of the hidden layers.
        num_layers: how many.
        scale: about the size of the values; as in `ValueHead`.
        num_heads: networks.
        pessimistic: the least of the networks counts; else their mean.

    Raises:
        ValueError: an option out of range.
    """

    weight: Tensor
    scale: Tensor

    def __init__(
        self,
        deter_dim: int = 200,
        stoch_dim: int = 30,
        hidden_dim: int = 200,
        num_layers: int = 2,
        scale: float = 1.0,
        num_heads: int = 2,
        pessimistic: bool = True,
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, got {num_heads}.")
        self.deter_dim, self.stoch_dim = deter_dim, stoch_dim
        self.pessimistic = pessimistic
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be positive and finite, got {scale}.")
        heads = [ValueHead(deter_dim, stoch_dim, hidden_dim, num_layers) for _ in range(num_heads)]
        self.heads = nn.ModuleList(heads)
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, belief: Belief) -> Float[Tensor, " heads *batch"]:
        """What each network says of each belief; in float32 at least."""
        values = torch.stack([head(belief) for head in self.heads])
        return self.scale * values.to(torch.promote_types(values.dtype, torch.float32))

    def estimate(self, belief: Belief) -> Float[Tensor, "*batch"]:
        """What a planner counts, before its weight."""
        values = self(belief)
        return values.amin(0) if self.pessimistic else values.mean(0)
