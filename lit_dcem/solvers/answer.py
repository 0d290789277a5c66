"""From the iterations of the cross-entropy method to its solution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lit_dcem.solvers.options import require
from lit_dcem.solvers.refit import State, best_of, evaluate, known_to_be_finite, set_aside
from lit_dcem.solvers.types import Iteration, Objective, Solution


def solution_of(objective: Objective, state: State, iterations: Sequence[Iteration], trace: bool) -> Solution:
    """Put the answer together: evaluate the mean, and find the best point among it and all candidates."""
    kept = tuple(iterations) if trace else None
    last = state.mean.unsqueeze(1)
    value = evaluate(objective, last)
    candidates = torch.cat([last, *(iteration.candidates for iteration in iterations)], 1)
    values = torch.cat([iteration.values for iteration in iterations], 1)
    are_finite = known_to_be_finite(last, value) and known_to_be_finite(last, values)
    if not are_finite:
        value, _ = set_aside(objective, last, value, best_of(candidates[:, 1:], values)[0])
    best, best_value = best_of(candidates, torch.cat([value, values], 1))
    solution = Solution(state.mean, state.std, value.squeeze(1), best, best_value, kept)
    return solution if are_finite else _nan_unless(values.detach().isfinite().any(1), solution)


def _nan_unless(found: Tensor, solution: Solution) -> Solution:
    """The solution with NaN for each problem that is not found."""
    names = ("mean", "std", "value", "best", "best_value")
    fields = {name: getattr(solution, name) for name in names}
    rows = {name: found if field.dim() == 1 else found.unsqueeze(1) for name, field in fields.items()}
    return replace(solution, **{name: torch.where(rows[name], fields[name], math.nan) for name in names})


def require_finite_values(solution: Solution) -> None:
    """Raise a ValueError that lists the problems without a finite value, if there are any."""
    lost = solution.best_value.isnan().nonzero().flatten().tolist()
    listed = ", ".join(map(str, lost[:10])) + (", ..." if len(lost) > 10 else "")
    rule = "require_finite needs a finite value for every problem"
    require(not lost, rule, f"none for {len(lost)} of {len(solution.best_value)} (problem {listed})")
