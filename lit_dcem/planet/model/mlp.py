"""Multi-layer perceptron with ReLU."""

from __future__ import annotations

from itertools import chain, pairwise, repeat

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Hidden layers with ReLU, then a linear layer: ``[*, input_dim] -> [*, output_dim]``.

    `split` takes the first layer apart, so that inputs known for all time steps are multiplied in one go.
    """

    def __init__(self, input_dim: int, hidden_dim: int, num_layers: int, output_dim: int) -> None:
        super().__init__()
        sizes = chain([input_dim], repeat(hidden_dim, num_layers), [output_dim])
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.first = layers[0]
        self.rest = nn.Sequential(*[part for layer in layers[1:] for part in (nn.ReLU(inplace=True), layer)])

    def forward(self, inputs: Float[Tensor, "*batch input_dim"]) -> Float[Tensor, "*batch output_dim"]:
        # As a matrix: if ReLU changed a view in place, autograd would need three more passes over it.
        return self.rest(self.first(inputs.reshape(-1, inputs.shape[-1]))).reshape(*inputs.shape[:-1], -1)

    def split(self, size: int, inputs: Float[Tensor, "*batch rest"]) -> tuple[Tensor, Tensor]:
        """The first layer's output for all but the first ``size`` inputs, with bias, and the weights of those first."""
        first, others = self.first.weight.split([size, inputs.shape[-1]], 1)
        return F.linear(inputs, others, self.first.bias), first
