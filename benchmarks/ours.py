"""Our solvers on test functions, all settings of `lit_dcem.minimize`."""

from __future__ import annotations

import math
from typing import Any

import torch
from landscapes import HALF_WIDTH, Several
from minimisers import INITIAL_STD, Minimiser, Recorder
from torch import Tensor

from lit_dcem import minimize
from lit_dcem.solvers.cma import CMA
from lit_dcem.solvers.distributions import Gaussian
from lit_dcem.solvers.weights import LogRank, TopK

ACTIVE = LogRank(negative=True)

# The presets: (D, evaluations) -> options of minimize.


def cem(dim: int, budget: int) -> dict[str, Any]:
    """The plain method: 100 candidates, 10 elites."""
    return {"weighting": TopK(10), **_sized(100, budget)}


def steady_cem(dim: int, budget: int) -> dict[str, Any]:
    """Kept elites and momentum, which narrow the search slowly; fewer candidates if there are few evaluations."""
    candidates, momentum = (100, 0.5) if budget >= 5000 else (50, 0.25)
    return {
        "weighting": TopK(10),
        "distribution": Gaussian(momentum=momentum),
        "num_kept": 5,
        **_sized(candidates, budget),
    }


def cma(dim: int, budget: int) -> dict[str, Any]:
    """The usual population."""
    return {"weighting": ACTIVE, "distribution": CMA(restart_below=1e-10), **_sized(_population(dim), budget)}


def large_cma(dim: int, budget: int) -> dict[str, Any]:
    """Four times the usual population."""
    return {"weighting": ACTIVE, "distribution": CMA(restart_below=1e-10), **_sized(4 * _population(dim), budget)}


PRESETS = {"CEM": cem, "steady CEM": steady_cem, "CMA": cma, "CMA, large population": large_cma}


def ours() -> dict[str, Minimiser]:
    """Make our solvers."""
    return {f"lit-dcem {name}": _minimiser(name) for name in PRESETS}


def _minimiser(name: str) -> Minimiser:
    def minimise(landscape: Several, dim: int, budget: int) -> dict[str, Tensor]:
        recorder = Recorder(landscape, budget, stops=False)
        mean = torch.zeros_like(landscape.optimum)
        options = {"lower": -HALF_WIDTH, "upper": HALF_WIDTH, "standardize": False, **PRESETS[name](dim, budget)}
        with torch.no_grad():
            minimize(recorder, mean, INITIAL_STD, generator=torch.Generator().manual_seed(0), **options)
        return {f"lit-dcem {name}": recorder.best_so_far()}

    return minimise


def _population(dim: int) -> int:
    return 4 + int(3 * math.log(dim))


def _sized(candidates: int, budget: int) -> dict[str, int]:
    """As many iterations as the budget allows; kept candidates are evaluated again."""
    return {"num_candidates": candidates, "num_iterations": math.ceil(budget / candidates)}
