"""A value network on the belief of a world model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.models.belief import Belief
from lit_dcem.models.mlp import MLP


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
