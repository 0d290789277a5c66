"""Problems with any number of batch dimensions, none included, as the rows ``[B, D]`` that the loop works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from lit_dcem.solvers.options import as_bound, require
from lit_dcem.solvers.types import Bound, Iteration, Objective, Solution


def rows_of(tensor: Any, batch: Sequence[int]) -> Any:
    """A tensor ``[*batch, ...]`` as ``[B, ...]``; anything else unchanged."""
    fits = isinstance(tensor, Tensor) and tensor.shape[: len(batch)] == tuple(batch) and tensor.dim() > len(batch)
    return tensor.reshape((-1, *tensor.shape[len(batch) :])) if fits else tensor


def bound_in_rows(name: str, bound: Bound, mean: Tensor) -> Bound:
    """A bound that broadcasts against ``[*batch, D]``, as rows."""
    return bound if bound is None or isinstance(bound, (int, float)) else _expanded(name, bound, mean)


def _expanded(name: str, bound: Bound, mean: Tensor) -> Tensor:
    expanded = as_bound(name, bound, mean)
    assert expanded is not None
    return expanded.reshape(-1, mean.shape[-1])


def objective_in_rows(objective: Objective, batch: Sequence[int]) -> Objective:
    """The objective of candidates ``[*batch, N, D]``, for candidates ``[B, N, D]``."""

    def of_rows(points: Tensor) -> Tensor:
        candidates = points.reshape((*batch, *points.shape[1:]))
        values = objective(candidates)
        rule, got = "objective must return one value per candidate", getattr(values, "shape", type(values).__name__)
        require(got == candidates.shape[:-1], rule, f"{_listed(got)} for candidates {list(candidates.shape)}")
        return values.reshape(points.shape[:2])

    return of_rows


def _listed(shape: Any) -> Any:
    return list(shape) if isinstance(shape, torch.Size) else shape


def solution_in_batches(solution: Solution, batch: Sequence[int]) -> Solution:
    """A solution ``[B, ...]`` as ``[*batch, ...]``, with its trace."""
    trace = None if solution.trace is None else tuple(_reshaped(each, batch) for each in solution.trace)
    bounds = tuple(_back(bound, batch) for bound in solution.bounds)
    return replace(_reshaped(solution, batch), trace=trace, bounds=bounds)


def _reshaped(content: Any, batch: Sequence[int]) -> Any:
    return replace(content, **{field.name: _back(getattr(content, field.name), batch) for field in fields(content)})


def _back(tensor: Any, batch: Sequence[int]) -> Any:
    return tensor.reshape((*batch, *tensor.shape[1:])) if isinstance(tensor, Tensor) else tensor


def negated(objective: Objective) -> Objective:
    """The objective to minimise in place of one to maximise."""

    def negative(points: Tensor) -> Tensor:
        values = objective(points)
        counts = isinstance(values, Tensor) and not values.is_floating_point()
        return -(values.to(points.dtype) if counts else values)  # -x of uint8 would wrap

    return negative


def with_negated_values(solution: Solution) -> Solution:
    """The solution of a negated objective, with the values of the objective itself."""
    flip: Callable[[Iteration], Iteration] = lambda each: replace(each, values=-each.values)  # noqa: E731
    trace = None if solution.trace is None else tuple(map(flip, solution.trace))
    return replace(solution, value=-solution.value, best_value=-solution.best_value, trace=trace, maximize=True)
