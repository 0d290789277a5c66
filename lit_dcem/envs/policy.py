"""The interface of policies, which act in environments."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PolicyState = dict[str, Tensor]
"""memory of a policy for E running episodes; the first dimension of every tensor is E"""


def replaced(state: PolicyState, rows: Bool[Tensor, " envs"], other: PolicyState) -> PolicyState:
    """The state, but some rows of each tensor from another state that has the same names."""
    return {
        name: torch.where(rows.view(-1, *[1] * (tensor.dim() - 1)), other[name], tensor)
        for name, tensor in state.items()
    }


class Policy(Protocol):
    """Acts in E environments at once, each in its own episode. Its memory is the state, so that runs can be resumed."""

    def __call__(
        self,
        observations: Float[Tensor, "envs observation"],
        actions: Float[Tensor, "envs action"],
        first: Bool[Tensor, " envs"],
        state: PolicyState | None,
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        """Return actions in [-1, 1] and the state for the next call.

        Args:
            observations: latest observations.
            actions: actions taken before these observations, by this policy or another. Undefined where ``first``.
            first: where an episode begins. The state there belongs to the previous episode.
            state: state returned by the last call. None in the first call.
        """
        ...


class SeedablePolicy(Policy, Protocol):
    """A policy that can be given noise of its own. By itself it draws from torch's global generator, if at all."""

    def with_seed(self, seed: int) -> Policy:
        """The same policy with a new generator of this seed, from which it draws all its noise."""
        ...
