"""Our solvers on test functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from landscapes import HALF_WIDTH, Several
from minimisers import INITIAL_STD, Minimiser, Recorder
from torch import Tensor

from lit_dcem import DCEM, cma, icem
from lit_dcem.solvers.solver import Solver


def plain_cem(dim: int, budget: int) -> Solver:
    """100 candidates, 10 elites, the hard top-k."""
    return DCEM(num_candidates=100, num_elites=10, num_iterations=budget // 100, temperature=0.0)


def steady_cem(dim: int, budget: int) -> Solver:
    """Kept elites, and momentum, which narrows the search slowly if there are many evaluations."""
    size, momentum = (100, 0.6) if budget >= 5000 else (50, 0.25)
    return icem(size, num_iterations=budget // size, decay=1.0, momentum=momentum, num_kept=5)


PRESETS: dict[str, Callable[[int, int], Solver]] = {
    "CEM": plain_cem,
    "iCEM": steady_cem,
    "CMA": lambda dim, budget: cma(dim, budget),
    "CMA x 4": lambda dim, budget: cma(dim, budget, population=4),
}
"""by name, ``(D, evaluations) -> solver``"""


def ours() -> dict[str, Minimiser]:
    """Make our solvers."""
    return {f"lit-dcem {name}": _minimiser(name) for name in PRESETS}


def _minimiser(name: str) -> Minimiser:
    def minimise(landscape: Several, dim: int, budget: int) -> dict[str, Tensor]:
        recorder = Recorder(landscape, budget, stops=False)
        solver = PRESETS[name](dim, budget).replace(lower=-HALF_WIDTH, upper=HALF_WIDTH)
        torch.manual_seed(0)
        with torch.no_grad():
            solver(recorder, torch.zeros_like(landscape.optimum), INITIAL_STD)
        return {f"lit-dcem {name}": recorder.best_so_far()}

    return minimise
