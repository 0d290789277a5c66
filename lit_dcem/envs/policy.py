"""What acts in environments."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor

PolicyState = dict[str, Tensor]
"""what a policy remembers of E running episodes; the first dimension of every tensor is E"""


class Policy(Protocol):
    """Acts in E environments at once, each in its own episode; keeps nothing itself, so that a run can be resumed."""

    def __call__(
        self,
        observations: Float[Tensor, "envs observation"],
        actions: Float[Tensor, "envs action"],
        first: Bool[Tensor, " envs"],
        state: PolicyState | None,
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        """Actions in [-1, 1], and the state to come with next time.

        Args:
            observations: the latest.
            actions: that were taken before them, whoever chose them; of no meaning where ``first``.
            first: where an episode begins: what the state holds there is of another one.
            state: of the last call; None before the first.
        """
        ...
