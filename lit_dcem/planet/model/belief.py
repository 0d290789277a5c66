"""Beliefs of a recurrent state-space model and the diagonal Gaussians they are drawn from, as tuples of tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Gaussian(NamedTuple):
    """A diagonal Gaussian for each element of the batch."""

    mean: Float[Tensor, "*batch stoch_dim"]
    std: Float[Tensor, "*batch stoch_dim"]

    def sample(self, noise: Float[Tensor, "*batch stoch_dim"]) -> Float[Tensor, "*batch stoch_dim"]:
        """``mean + std * noise``, for standard normal noise."""
        return torch.addcmul(self.mean, self.std, noise)

    def detach(self) -> Gaussian:
        """The same, without gradients."""
        return Gaussian(self.mean.detach(), self.std.detach())


class Belief(NamedTuple):
    """What the model knows about the environment: all that its heads and later steps depend on."""

    deter: Float[Tensor, "*batch deter_dim"]
    """h, the state of the GRU"""
    stoch: Float[Tensor, "*batch stoch_dim"]
    """x, a sample of the prior or posterior"""


class Posterior(NamedTuple):
    """A belief that has seen its observation, and the distribution its stochastic state was drawn from."""

    belief: Belief
    gaussian: Gaussian


def kl_divergence(posterior: Gaussian, prior: Gaussian) -> Float[Tensor, "*batch"]:
    """KL(posterior || prior) in nats, summed over dimensions; computed in at least float32."""
    dtype = torch.promote_types(posterior.mean.dtype, torch.float32)
    mean, std = posterior.mean.to(dtype), posterior.std.to(dtype)
    ratio, distance = std / prior.std, (mean - prior.mean) / prior.std
    return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(-1)
