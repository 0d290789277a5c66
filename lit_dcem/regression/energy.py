"""Energy of a pair (x, y), for regression by ``argmin_y energy(x, y)``."""

from __future__ import annotations

import math
from itertools import chain, pairwise, repeat

import torch
from jaxtyping import Float
from torch import Tensor, nn


class EnergyNetwork(nn.Module):
    """Multi-layer perceptron on (x, y) with Softplus, and one output (section 5.1 of the paper: 3 layers of 128).

    Args:
        input_dim: X, the size of x.
        output_dim: Y, the size of y.
        hidden_dim: width of the hidden layers.
        num_layers: number of hidden layers.
        x_offset: subtracted from x.
        x_scale: multiplies x after the offset; a larger scale lets the energy vary faster with x.
        y_scale: multiplies y.

    Raises:
        ValueError: a size is below 1, an offset or scale is not finite, or a scale is 0.
    """

    def __init__(
        self,
        input_dim: int = 1,
        output_dim: int = 1,
        hidden_dim: int = 128,
        num_layers: int = 3,
        x_offset: float = 0.0,
        x_scale: float = 1.0,
        y_scale: float = 1.0,
    ) -> None:
        super().__init__()
        _check_sizes(input_dim=input_dim, output_dim=output_dim, hidden_dim=hidden_dim, num_layers=num_layers)
        if not math.isfinite(x_offset) or not all(0 < abs(scale) < math.inf for scale in (x_scale, y_scale)):
            rule = "x_offset must be finite, x_scale and y_scale finite and not 0"
            raise ValueError(f"{rule}, got {x_offset}, {x_scale} and {y_scale}.")
        self.output_dim = output_dim
        self.x_offset = x_offset
        self.x_scale = x_scale
        self.y_scale = y_scale
        sizes = chain([input_dim + output_dim], repeat(hidden_dim, num_layers))
        hidden = [(nn.Linear(a, b), nn.Softplus()) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(*[layer for pair in hidden for layer in pair], nn.Linear(hidden_dim, 1))

    def forward(
        self, x: Float[Tensor, "batch input_dim"], y: Float[Tensor, "batch candidates output_dim"]
    ) -> Float[Tensor, "batch candidates"]:
        """Energies of N candidate outputs for each input."""
        x = (x - self.x_offset) * self.x_scale
        pairs = torch.cat([x.unsqueeze(1).expand(-1, y.shape[1], -1), y * self.y_scale], -1)
        return self.layers(pairs).squeeze(-1)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")
