"""Observations in units of their standard deviation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 1e-3
"""added to standard deviations, so that what hardly varies is not divided by next to nothing"""


class ObservationScale(nn.Module):
    """Shifts and scales each number of an observation; until `fit` it changes nothing.

    A likelihood with unit variance weighs each number of a raw observation by its units: in the cheetah's, velocities
    drown out angles.

    Args:
        observation_dim: O, numbers in an observation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, observation_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(observation_dim))
        self.register_buffer("std", torch.ones(observation_dim))

    def forward(self, observations: Float[Tensor, "*batch observation"]) -> Float[Tensor, "*batch observation"]:
        """From the environment's units to the model's."""
        return (observations.to(self.mean) - self.mean) / self.std

    def inverse(self, observations: Float[Tensor, "*batch observation"]) -> Float[Tensor, "*batch observation"]:
        """From the model's units to the environment's."""
        return observations * self.std + self.mean

    @torch.no_grad()
    def fit(self, observations: Float[Tensor, "*batch observation"]) -> None:
        """Set mean and standard deviation to those of the observations.

        A number that is the same in all of them keeps its unit: what it does later may be of any size.
        """
        rows = observations.flatten(0, -2)
        self.mean.copy_(rows.mean(0))
        varies = rows.amax(0) > rows.amin(0)
        self.std.copy_(torch.where(varies, rows.std(0) + LEAST, 1))
