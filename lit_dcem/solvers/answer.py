"""From the iterations of a search to its solution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lit_dcem.solvers.iteration import State, Step, best_of, clamped, evaluate, known_to_be_finite, set_aside
from lit_dcem.solvers.options import require
from lit_dcem.solvers.precision import full_precision
from lit_dcem.solvers.types import Iteration, Solution


def solution_of(
    step: Step,
    state: State,
    iterations: Sequence[Iteration],
    ended: Sequence[Bool[Tensor, " batch"] | None],
    trace: bool,
) -> Solution:
    """Put the answer together: evaluate it, and find the best point among it and all candidates.

    Args:
        step: of the search.
        state: after the last iteration.
        iterations: all of them.
        ended: the problems that had ended before each iteration.
        trace: whether the solution has the iterations.
    """
    kept = tuple(iterations) if trace else None
    with full_precision(state.distribution.mean):
        answer = clamped(step.distribution.answer(state.distribution), step.bounds)
    last = answer.unsqueeze(1)
    value = evaluate(step.objective, last)
    candidates = torch.cat([last, *(iteration.candidates for iteration in iterations)], 1)
    values = torch.cat([iteration.values for iteration in iterations], 1)
    are_finite = known_to_be_finite(value, last) and known_to_be_finite(values)
    if not are_finite:
        value, _ = set_aside(step.objective, last, value, best_of(candidates[:, 1:], values)[0])
    best, best_value = best_of(candidates, torch.cat([value, values], 1))
    more = {"trace": kept, "num_iterations": _counted(ended), "bounds": step.bounds}
    solution = Solution(answer, state.distribution.std, value.squeeze(1), best, best_value, **more)
    return solution if are_finite else _nan_unless(values.detach().isfinite().any(1), solution)


def _counted(ended: Sequence[Bool[Tensor, " batch"] | None]) -> int | Int[Tensor, " batch"]:
    """How many iterations each problem took."""
    rows = [each for each in ended if each is not None]
    return (~torch.stack(rows)).sum(0) if rows else len(ended)


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
