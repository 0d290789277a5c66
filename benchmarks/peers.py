"""Peers of the solvers: plain implementations of the same methods, and evotorch's CEM."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]
Projection = Callable[[Tensor, int], Tensor]

HAS_EVOTORCH = find_spec("evotorch") is not None

# The float32 gradient needs this many and gains nothing from more; see README.md.
BISECTION_STEPS = 24


def unrolled_bisection(scores: Tensor, k: int, steps: int = BISECTION_STEPS) -> Tensor:
    """Solve the LML projection by bisection, with autograd through all of it.

    The choice of a half has no derivative, so autograd alone would return the derivative of the first bracket. The
    Newton step at the end corrects this: its derivative at the root is the implicit one, whatever its input.
    """
    return _newton_step(scores, _bisect(scores, k, steps), k)


def detached_bisection(scores: Tensor, k: int, steps: int = BISECTION_STEPS) -> Tensor:
    """Do the same with the search left out of the graph, the fastest option with bisection and plain autograd."""
    with torch.no_grad():
        root = _bisect(scores, k, steps)
    return _newton_step(scores, root, k)


PROJECTIONS: dict[str, Projection] = {
    "unrolled bisection": unrolled_bisection,
    "detached bisection": detached_bisection,
}


def dcem_by(
    project: Projection,
    objective: Objective,
    mean: Tensor,
    std: Tensor,
    *,
    num_candidates: int = 100,
    num_elites: int = 10,
    num_iterations: int = 10,
) -> Tensor:
    """Run the loop of `lit_dcem.dcem` at its defaults around another projection; returns the mean."""
    for _ in range(num_iterations):
        noise = torch.randn(mean.shape[0], num_candidates, mean.shape[1])
        candidates = mean.unsqueeze(1) + std.unsqueeze(1) * noise
        scores = -objective(candidates)
        scores = (scores - scores.mean(1, keepdim=True)) / (scores.std(1, keepdim=True) + 1e-6)
        share = (project(scores, num_elites) / num_elites).unsqueeze(-1)
        mean = (share * candidates).sum(1)
        std = (share * (candidates - mean.unsqueeze(1)).square()).sum(1).sqrt()
    return mean


def cem_by_evotorch(
    objective: Objective,
    mean: Tensor,
    std: Tensor,
    *,
    num_candidates: int = 100,
    num_elites: int = 10,
    num_iterations: int = 10,
) -> Tensor:
    """Run the functional CEM of evotorch on a batch of problems; returns the mean."""
    from evotorch.algorithms.functional import cem, cem_ask, cem_tell  # pyright: ignore[reportMissingImports]

    elites = num_elites / num_candidates
    state = cem(center_init=mean, stdev_init=std, parenthood_ratio=elites, objective_sense="min")
    for _ in range(num_iterations):
        candidates = cem_ask(state, popsize=num_candidates)
        state = cem_tell(state, candidates, objective(candidates))
    return state.center


def _bisect(scores: Tensor, k: int, steps: int) -> Tensor:
    """Find the offset at which weights sum to k. At each end of the first bracket, all are on one side of k / n."""
    uniform = torch.logit(torch.tensor(k / scores.shape[-1], dtype=scores.dtype))
    lower = uniform - scores.amax(-1, keepdim=True)
    upper = uniform - scores.amin(-1, keepdim=True)
    for _ in range(steps):
        middle = (lower + upper) / 2
        too_low = torch.sigmoid(scores + middle).sum(-1, keepdim=True) < k
        lower, upper = torch.where(too_low, middle, lower), torch.where(too_low, upper, middle)
    return (lower + upper) / 2


def _newton_step(scores: Tensor, root: Tensor, k: int) -> Tensor:
    weights = torch.sigmoid(scores + root)
    slope = (weights * (1 - weights)).sum(-1, keepdim=True)
    return torch.sigmoid(scores + root - (weights.sum(-1, keepdim=True) - k) / slope)
