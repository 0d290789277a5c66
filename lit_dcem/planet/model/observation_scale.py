"""Observations in units of their own spread."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 1e-3
"""added to standard deviations, for numbers that do not vary"""


class ObservationScale(nn.Module):
    """Shifts and scales each number of an observation; changes nothing until `fit`.

    A unit-variance likelihood of raw observations weighs a number by its units: a cheetah's velocities outweigh its
    angles.

    Args:
        observation_dim: O.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, observation_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(observation_dim))
        self.register_buffer("std", torch.ones(observation_dim))

    def forward(self, observations: Float[Tensor, "*batch observation"]) -> Float[Tensor, "*batch observation"]:
        """From the environment's units to those of the model."""
        return (observations.to(self.mean) - self.mean) / self.std

    def inverse(self, observations: Float[Tensor, "*batch observation"]) -> Float[Tensor, "*batch observation"]:
        """From the units of the model to the environment's."""
        return observations * self.std + self.mean

    @torch.no_grad()
    def fit(self, observations: Float[Tensor, "*batch observation"]) -> None:
        """Take mean and standard deviation from observations."""
        rows = observations.flatten(0, -2)
        self.mean.copy_(rows.mean(0))
        self.std.copy_(rows.std(0) + LEAST)
