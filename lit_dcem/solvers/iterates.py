"""The last iterates of a solver, for losses that do not depend on its answer alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.options import require
from lit_dcem.solvers.types import Solution


@dataclass(frozen=True)
class LastIterates:
    """The answers after the last ``count`` iterations of a solver, each weighted ``discount`` times the next.

    Raises:
        ValueError: a count below 1, or a discount outside (0, 1].
    """

    count: int = 1
    discount: float = 1.0

    def __post_init__(self) -> None:
        rule = "The iterations of a loss must be at least 1 and its discount in (0, 1]"
        require(self.count >= 1 and 0 < self.discount <= 1, rule, self.count, self.discount)

    def of(self, solution: Solution) -> Float[Tensor, "iterates batch dim"]:
        """The last iterates of a traced solution; all of them, if there are fewer than ``count``."""
        return solution.iterates[-self.count :]

    def weights(self, count: int, device: torch.device) -> Float[Tensor, " {count}"]:
        """A weight for each of ``count`` iterates; they sum to 1."""
        weights = self.discount ** torch.arange(count - 1, -1, -1, device=device)
        return weights / weights.sum()
