"""How many evaluations of an objective a plan takes."""

from __future__ import annotations

from torch import nn

from lit_dcem.solvers.cem import DCEM, OPTIONS
from lit_dcem.solvers.options import candidates_per_iteration


def trajectories_of(planner: nn.Module) -> int | None:
    """Rollouts of a plan: what the planner says itself (``num_trajectories``), or the candidates of its solver.

    A planner that answers with the best point has compared the last mean with them, too.
    """
    solver = getattr(planner, "solver", None)
    if not isinstance(solver, DCEM):
        return getattr(planner, "num_trajectories", None)
    given = {**OPTIONS, **solver.options}
    candidates = sum(candidates_per_iteration(given["num_candidates"], given["num_iterations"]))
    return candidates + (getattr(planner, "answer", "mean") == "best")
