"""What a solver is to its callers. `DCEM` and `UnrolledGD` are two; subclass `Solver` to use your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.solvers.types import Objective, Solution

Same = TypeVar("Same", bound="Solver")


class Solver(nn.Module, ABC):
    """Minimises an objective for each of B independent problems: ``solver(objective, mean, std) -> Solution``.

    A class, not a protocol, so that a config can name one by ``class_path``. A solver of your own must:

    - solve each problem by itself: row b of the solution depends on row b of ``mean`` and ``std`` alone;
    - ignore a candidate that is NaN or infinite, or has such a value, and answer a problem with NaN if none of its
      candidates has a finite value, without touching the other problems;
    - draw random numbers from torch's global generator of the device of ``mean``, so that seeds and resumed runs
      reproduce its answers;
    - let gradients through to whatever the objective depends on, if `is_differentiable`;
    - not change: `replace` and `traced` return new solvers.
    """

    @abstractmethod
    def forward(
        self, objective: Objective, mean: Float[Tensor, "batch dim"], std: float | Float[Tensor, "batch dim"]
    ) -> Solution:
        """Minimise ``objective``, starting from ``mean`` with standard deviation ``std``, which a solver may ignore."""

    @property
    @abstractmethod
    def is_differentiable(self) -> bool:
        """Whether gradients reach the answer through the solver."""

    @abstractmethod
    def replace(self, **changes: Any) -> Solver:
        """A copy with some options changed; ``trace`` must be one of them.

        Raises:
            TypeError: an unknown option.
            ValueError: an option out of range.
        """

    @abstractmethod
    def traced(self, num_iterations: int | None = None) -> Solver:
        """A copy that returns a trace, with another number of iterations (or steps) if one is given."""

    def with_generator(self: Same, generator: torch.Generator) -> Same:
        """A solver that draws from this generator; by default it keeps to the global one, if it draws at all."""
        return self

    @property
    def num_evaluations(self) -> int | None:
        """How often the objective is evaluated for each problem to find the mean of a solution; None if unknown."""
        return None

    def check_dim(self, dim: int) -> None:
        """Raise a ValueError if the options do not fit problems of D = ``dim`` dimensions. By default, all fit."""

    def clamp(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Points clamped to the bounds of the solver. By default, it has none."""
        return points
