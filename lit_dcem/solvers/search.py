"""A solver together with where its searches begin and which point of a solution is the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.options import require
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Objective, Solution

Answer = Literal["mean", "best"]
"""the mean of the last distribution (the paper's answer), or the best point that the solver evaluated"""


@dataclass(frozen=True)
class Search:
    """How a model or a planner uses a solver.

    Args:
        solver: minimises.
        initial_std: standard deviation of the first candidates in every dimension.
        answer: which point of a solution is the answer.

    Raises:
        ValueError: ``initial_std`` that is not positive and finite, or another answer than "mean" and "best".
    """

    solver: Solver
    initial_std: float
    answer: Answer = "mean"

    def __post_init__(self) -> None:
        require(0 < self.initial_std < math.inf, "initial_std must be positive and finite", self.initial_std)
        require(self.answer in get_args(Answer), f"answer must be {' or '.join(get_args(Answer))}", self.answer)

    def solve(
        self,
        objective: Objective,
        like: Float[Tensor, "batch ..."],
        dim: int,
        mean: Float[Tensor, "batch dim"] | None = None,
        **changes: Any,
    ) -> Solution:
        """Minimise ``objective`` over points ``[B, dim]``.

        Args:
            objective: maps candidates ``[B, N, dim]`` to values ``[B, N]``.
            like: any tensor with a row for each problem; the search has its type and device.
            dim: size of a point.
            mean: where the search begins; zero if none is given.
            changes: options of the solver that differ this once.
        """
        if mean is None:
            mean = like.new_zeros(len(like), dim)
        solver = self.solver.replace(**changes) if changes else self.solver
        return solver(objective, mean, torch.full_like(mean, self.initial_std))

    def answer_of(self, solution: Solution) -> Float[Tensor, "batch dim"]:
        """The point of a solution that is the answer."""
        return solution.best if self.answer == "best" else solution.mean

    def with_solver(self, solver: Solver | None) -> Search:
        """The same search with another solver, if one is given."""
        return self if solver is None else replace(self, solver=solver)

    @property
    def num_evaluations(self) -> int | None:
        """Evaluations of the objective behind an answer of one problem; None if the solver does not say.

        The best point is the best of all candidates and the last mean, whose value counts, too.
        """
        count = self.solver.num_evaluations
        return None if count is None else count + (self.answer == "best")
