"""Where the search of a planner begins: the bounds of its points, the first distribution and the first candidates."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.solvers.iteration import best_of
from lit_dcem.solvers.options import check_bounds, plain, require
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Bound, Objective, Solution


def bounded(solver: Solver, num_knots: int, action_dim: int, lower: Bound, upper: Bound) -> Solver:
    """The solver, with bounds for points of K knots of A numbers.

    Args:
        solver: whose own bound stays where none is given.
        num_knots: K.
        action_dim: A.
        lower: bound of each knot, a number or A numbers; None for that of the solver.
        upper: as ``lower``, and above it.

    Raises:
        ValueError: numbers that do not fit or are out of range, or a solver that maximizes.
    """
    maximizes = bool(getattr(solver, "options", {}).get("maximize"))
    require(not maximizes, "maximize of a planner's solver must be false, as a planner negates its returns", maximizes)
    check_bounds(lower, upper)
    given = {name: bound for name, bound in (("lower", lower), ("upper", upper)) if bound is not None}
    shape, fitting = (num_knots, action_dim), [action_dim]
    changes = {name: _plainest(_expanded(name, bound, shape, fitting)) for name, bound in given.items()}
    return solver.replace(**changes) if changes else solver


class Start(nn.Module):
    """The first distribution of searches over K knots of A numbers.

    Their mean is the middle of the solver's bounds. Where it does not have both, or has others for each problem, it is
    0, or as near to 0 as a standard deviation between it and the bound allows.

    Args:
        solver: searches.
        num_knots: K.
        action_dim: A.
        std: first standard deviation, a number or numbers that broadcast against ``[K, A]``; by default half the
            distance between the bounds, or 1 for want of them.

    Raises:
        ValueError: numbers that do not fit or are out of range.
    """

    mean: Float[Tensor, " dim"]
    std: Float[Tensor, " dim"]

    def __init__(self, solver: Solver, num_knots: int, action_dim: int, std: Bound = None) -> None:
        super().__init__()
        shape = num_knots, action_dim
        low, high = (_limit(solver, num_knots * action_dim, infinity) for infinity in (-math.inf, math.inf))
        has_both = (high - low).isfinite()
        middle, half = (
            torch.where(has_both, both / 2, other) for both, other in ((high + low, 0.0), (high - low, 1.0))
        )
        stds = half if std is None else _expanded("std", std, shape, shape)
        require(bool(((stds > 0) & stds.isfinite()).all()), "std must be positive and finite", plain(std))
        mean = torch.where(has_both, middle, middle.clamp(low + stds, high - stds))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", stds, persistent=False)


@torch.no_grad()
def _limit(solver: Solver, dim: int, infinity: float) -> Float[Tensor, " dim"]:
    """A solver's bound on the side of an infinity; that infinity where there is none, or one for each problem."""
    farthest = torch.full((1, dim), infinity, dtype=torch.float64)
    try:
        limit = solver.clamp(farthest)
    except ValueError:  # they are for several problems
        limit = farthest
    return (limit if limit.shape == farthest.shape else farthest)[0]


def solve(
    solver: Solver,
    objective: Objective,
    mean: Float[Tensor, "batch dim"],
    std: Float[Tensor, "batch dim"],
    known: Float[Tensor, "batch known dim"] | None,
) -> Solution:
    """Search from a distribution and known points; a solver that takes no candidates begins at the best of these."""
    if known is None:
        return solver(objective, mean, std)
    if (warm := _warm(solver, known)) is not None:
        return warm(objective, mean, std)
    points = torch.cat([mean.unsqueeze(1), known], 1)
    with torch.no_grad():
        best, _ = best_of(points, objective(points))
    return solver(objective, best, std)


def _warm(solver: Solver, known: Tensor) -> Solver | None:
    """The solver with candidates to begin with; None if it takes none, such as gradient descent."""
    try:
        return solver.replace(warm_start=known)
    except TypeError:
        return None


def _plainest(numbers: Tensor) -> float | list[float]:
    """One number if all are the same: a solver need not copy it to an accelerator in every search."""
    first, *rest = numbers.tolist()
    return first if all(each == first for each in rest) else [first, *rest]


def _expanded(name: str, numbers: Bound, shape: tuple[int, int], fitting: list[int] | tuple[int, int]) -> Tensor:
    """Numbers that broadcast against ``fitting``, repeated to ``shape`` and flattened."""
    tensor = torch.as_tensor(plain(numbers), dtype=torch.float64).detach().cpu()
    try:
        tensor = tensor.expand(*fitting)
    except RuntimeError:
        require(False, f"{name} must broadcast against {list(fitting)}", list(tensor.shape))
    return tensor.expand(shape).flatten()
