"""The loss of a learned action space: the cost of points that a search of it evaluated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.iterates import LastIterates
from lit_dcem.solvers.options import require
from lit_dcem.solvers.ranking import rank_finite
from lit_dcem.solvers.types import Objective, Solution


@dataclass(frozen=True)
class EmbeddingLoss:
    r"""Weighted mean cost of the answer of a search (the paper's loss), of its best candidate, and of its elites.

    With the weights a, b and e, the answer, the best point and the set E of all elites:

    .. math:: \mathrm{loss} = \frac{1}{a + b + e} \left(a\, C(\hat z) + b\, C(z_\mathrm{best}) +
        \frac{e}{|E|} \sum_{z \in E} C(z)\right)

    A candidate whose cost is NaN or infinite is no elite; the best point takes the place of those that are missing.
    Gradients reach the objective's parameters at each of these points. For the answer they also pass through the
    search, if it has a graph; the best candidate and the elites are constants. The answer alone trains the decoder at
    one point; the elites train it along the whole search.

    Args:
        answer: weight of the cost of the answer.
        best: weight of the cost of the best point evaluated.
        elites: weight of the mean cost of the elites of all iterations.
        num_elites: number of best candidates of each iteration that count as its elites in this loss; all of them, if
            there are fewer.
        iterations: number of last iterations whose means count as the answer (paper: 1).
        discount: weight of each of these means relative to the next.

    Raises:
        ValueError: an option out of range.
    """

    answer: float = 1.0
    best: float = 0.0
    elites: float = 0.0
    num_elites: int = 10
    iterations: int = 1
    discount: float = 1.0

    def __post_init__(self) -> None:
        weights = self.answer, self.best, self.elites
        if not all(0 <= weight < math.inf for weight in weights) or max(weights) == 0:
            raise ValueError(f"Weights of the loss must be at least 0, finite and not all 0, got {weights}.")
        if self.num_elites < 1:
            raise ValueError(f"num_elites must be at least 1, got {self.num_elites}.")
        LastIterates(self.iterations, self.discount)  # raises for options out of range

    def __call__(self, objective: Objective, solution: Solution) -> Float[Tensor, ""]:
        """The loss of a traced solution, averaged over its problems.

        Args:
            objective: the one that was searched, to be minimised.
            solution: of problems ``[B, D]``.

        Raises:
            ValueError: a solution without batch dimension or with several, of a search that maximizes, or without a
                trace that a part needs.
        """
        require(not solution.maximize, "An EmbeddingLoss needs a search that minimizes costs", "maximize=True")
        require(solution.mean.dim() == 2, "The solution of an EmbeddingLoss must be [B, D]", list(solution.mean.shape))
        parts, device = [], solution.mean.device
        if self.answer > 0:
            last = LastIterates(self.iterations, self.discount)
            answers = last.of(solution).transpose(0, 1)
            parts.append((answers, self.answer * last.weights(answers.shape[1], device)))
        if self.best > 0:
            parts.append((solution.best.detach().unsqueeze(1), torch.full((1,), self.best, device=device)))
        if self.elites > 0:
            elites = self._elites(solution).detach()
            count = elites.shape[1]
            parts.append((elites, torch.full((count,), self.elites / count, device=device)))
        points, weights = (torch.cat(each, dim) for dim, each in zip((1, 0), zip(*parts, strict=True), strict=True))
        # All points are evaluated again, because at temperature 0 the search has no graph.
        costs = objective(points)
        weights = weights.to(costs)
        return (costs.mean(0) * weights).sum() / weights.sum()

    def _elites(self, solution: Solution) -> Float[Tensor, "batch elites dim"]:
        if solution.trace is None:
            raise ValueError("A loss of elites needs a search with trace=True, got None.")
        elites = []
        for each in solution.trace:
            count = min(self.num_elites, each.values.shape[1])
            scores, index = rank_finite(-each.values).topk(count, 1)
            points = each.candidates.gather(1, index.unsqueeze(-1).expand(-1, -1, each.candidates.shape[-1]))
            elites.append(torch.where(scores.isfinite().unsqueeze(-1), points, solution.best.unsqueeze(1)))
        return torch.cat(elites, 1)
