"""Value networks, which take the belief of a world model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.mlp import MLP


class ValueHead(nn.Module):
    r"""Expected discounted sum of the rewards that follow a belief (section 5.3 of the paper: the value of PPO).

    .. math:: V(h_t, x_t) \approx \mathbb{E} \sum_{i \ge 0} \gamma^i r_{t+1+i}

    Args:
        deter_dim: size of h, as in the world model (paper: 200).
        stoch_dim: size of x, as in the world model (paper: 30).
        hidden_dim: width of the hidden layers.
        num_layers: number of hidden layers.
        scale: multiplies the network's output. Choose about the size of the values: a network that starts near 0 and
            learns with 1e-3 needs thousands of steps to reach 100.

    Raises:
        ValueError: an option out of range.
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
        """Convert the weights of a network with another scale, so that its values stay the same."""
        *_, last = (module for module in self.layers.modules() if isinstance(module, nn.Linear))
        for parameter in last.parameters():
            parameter.mul_(scale / self.scale)


class ValueEnsemble(nn.Module):
    r"""Several value networks, whose minimum is a planner's estimate of the return after its horizon (`ModelPlanner`).

    .. math:: V(h, x) = \min_i V_i(h, x)

    A search is drawn to where a network overestimates. Where there is little data the networks disagree, and their
    minimum is less likely to be too high. ``weight`` multiplies the estimate in a plan: it is 0 at first, and whoever
    trains the ensemble sets it by how well it predicts returns of held-out episodes.

    Args:
        deter_dim: size of h, as in the world model.
        stoch_dim: size of x, as in the world model.
        hidden_dim: width of the hidden layers.
        num_layers: number of hidden layers.
        scale: multiplies the networks' outputs; about the size of the values, as in `ValueHead`.
        num_heads: number of networks.
        pessimistic: estimate by the minimum of the networks; with False, by their mean.

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
        """The value of each belief by each network, in at least float32."""
        values = torch.stack([head(belief) for head in self.heads])
        return self.scale * values.to(torch.promote_types(values.dtype, torch.float32))

    def estimate(self, belief: Belief) -> Float[Tensor, "*batch"]:
        """The ensemble's estimate for each belief, before ``weight``."""
        values = self(belief)
        return values.amin(0) if self.pessimistic else values.mean(0)
