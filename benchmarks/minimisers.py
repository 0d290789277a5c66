"""Peers on test functions: pycma, scipy's differential evolution, and evotorch's CEM and CMA-ES."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from landscapes import HALF_WIDTH, Landscape, Several
from peers import cem_by_evotorch
from torch import Tensor

INITIAL_STD = HALF_WIDTH / 2
"""standard deviation of the first candidates, for all solvers that have one; they start in the middle of the box"""
SOLVED = 1e-12
"""value below which there is nothing left to compare"""


class OutOfBudgetError(Exception):
    """Raised in an objective to stop a solver."""


class Recorder:
    """An objective that records all values, in order, and stops solvers at the end of their budget.

    Args:
        landscape: B instances.
        budget: evaluations of each instance.
        stops: whether to raise `OutOfBudgetError` when all are used up, or one value is `SOLVED`. Otherwise, values
            beyond the budget do not count.
    """

    def __init__(self, landscape: Landscape | Several, budget: int, stops: bool = True) -> None:
        self.landscape, self.budget, self.stops = landscape, budget, stops
        self.count, self._values, self._least = 0, [], math.inf

    def __call__(self, points: Tensor) -> Tensor:
        if self.stops and (self.count >= self.budget or self._least < SOLVED):
            raise OutOfBudgetError
        values = self.landscape(points)
        self._values.append(values.detach())
        if self.stops:
            self._least = min(self._least, values.min().item())
        self.count += values.shape[1]
        return values

    def of_arrays(self, points: np.ndarray) -> np.ndarray:
        """Values ``[N]`` of points ``[N, D]`` of a single instance."""
        return self(torch.from_numpy(np.ascontiguousarray(points)).unsqueeze(0)).squeeze(0).numpy()

    def best_so_far(self, until: int | None = None) -> Tensor:
        """The least value ``[B, budget]`` after each evaluation; unused ones (those after ``until``) change nothing."""
        least = torch.cat(self._values, 1)[:, : min(until or self.budget, self.budget)]
        least = least.nan_to_num(math.inf).cummin(1).values
        return torch.cat([least, least[:, -1:].expand(-1, self.budget - least.shape[1])], 1)


_SCIPY = "scipy differential evolution"

Minimiser = Callable[[Any, int, int], dict[str, Tensor]]
"""``(landscape(s) of B instances, D, budget) -> by name, the least value after each evaluation [B, budget]``"""


def one_by_one(name: str, solve: Callable[[Recorder, int, int], object]) -> Minimiser:
    """Make a minimiser of ``solve(objective, dim, seed)``, which takes a single instance; instance b has seed b."""

    def minimise(landscape: Landscape, dim: int, budget: int) -> dict[str, Tensor]:
        curves = []
        for seed in range(len(landscape.optimum)):
            recorder = Recorder(landscape.instance(seed), budget)
            torch.manual_seed(seed)
            with contextlib.suppress(OutOfBudgetError):
                solve(recorder, dim, seed)
            curves.append(recorder.best_so_far())
        return {name: torch.cat(curves)}

    return minimise


def pycma(landscape: Landscape, dim: int, budget: int) -> dict[str, Tensor]:
    """CMA-ES with the defaults of the package: with restarts of two population regimes (BIPOP), and without.

    The first of the restarted runs is the run without restarts; it starts in the middle, as all solvers do, and the
    others start at random points of the box.
    """
    import cma  # pyright: ignore[reportMissingImports]

    curves: dict[str, list[Tensor]] = {"pycma": [], "pycma, BIPOP restarts": []}
    for seed in range(len(landscape.optimum)):
        recorder = Recorder(landscape.instance(seed), budget)
        generator = np.random.default_rng(seed)
        starts: list[int] = []

        def start(recorder=recorder, generator=generator, starts=starts) -> np.ndarray:
            starts.append(recorder.count)
            return np.zeros(dim) if len(starts) == 1 else generator.uniform(-HALF_WIDTH, HALF_WIDTH, dim)

        def values(points: list[np.ndarray], recorder=recorder) -> list[float]:
            return recorder.of_arrays(np.stack(points)).tolist()

        with warnings.catch_warnings(), contextlib.suppress(OutOfBudgetError):
            warnings.simplefilter("ignore")
            options = _pycma_options(seed)
            cma.fmin2(None, start, INITIAL_STD, options, restarts=1000, bipop=True, parallel_objective=values)
        restart = starts[1] if len(starts) > 1 else budget
        curves["pycma"].append(recorder.best_so_far(restart))
        curves["pycma, BIPOP restarts"].append(recorder.best_so_far())
    return {name: torch.cat(parts) for name, parts in curves.items()}


def _pycma_options(seed: int) -> dict[str, object]:
    # pycma takes a seed of 0 for the clock.
    return {"bounds": [-HALF_WIDTH, HALF_WIDTH], "seed": seed + 1, "verbose": -9, "verb_log": 0, "verb_disp": 0}


def differential_evolution(recorder: Recorder, dim: int, seed: int) -> None:
    """Scipy's, vectorised, otherwise with its defaults: it polishes the answer by L-BFGS-B if the budget allows."""
    from scipy import optimize

    bounds = [(-HALF_WIDTH, HALF_WIDTH)] * dim

    def values(points: np.ndarray) -> np.ndarray:  # [D, N], or [D] for the polishing
        found = recorder.of_arrays(np.atleast_2d(points.T))
        return found if points.ndim == 2 else found[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimize.differential_evolution(values, bounds, rng=seed, maxiter=10**6, vectorized=True, updating="deferred")


def evotorch_cmaes(recorder: Recorder, dim: int, seed: int) -> None:
    """Evotorch's CMA-ES with its defaults, on a batched objective."""
    from evotorch import Problem  # pyright: ignore[reportMissingImports]
    from evotorch.algorithms import CMAES  # pyright: ignore[reportMissingImports]

    logging.getLogger("evotorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="evotorch")

    def objective(points: Tensor) -> Tensor:
        plain = points.as_subclass(Tensor)  # evotorch's own kind, which cannot be changed, would be recorded
        return recorder(plain.clamp(-HALF_WIDTH, HALF_WIDTH).unsqueeze(0)).squeeze(0)

    problem = Problem(
        "min", objective, solution_length=dim, initial_bounds=(-HALF_WIDTH, HALF_WIDTH), vectorized=True,
        dtype=torch.float64, seed=seed,
    )  # fmt: skip
    start = torch.zeros(dim, dtype=torch.float64)
    search = CMAES(problem, stdev_init=INITIAL_STD, center_init=start)  # pyright: ignore[reportArgumentType]
    with contextlib.suppress(RuntimeError):  # once it has converged, its standard deviation may become NaN
        while True:
            search.step()


def evotorch_cem(recorder: Recorder, dim: int, seed: int) -> None:
    """Evotorch's functional CEM: 100 candidates, 10 elites."""
    mean = torch.zeros(1, dim, dtype=torch.float64)
    with contextlib.suppress(RuntimeError):  # as above
        cem_by_evotorch(
            lambda points: recorder(points.clamp(-HALF_WIDTH, HALF_WIDTH)), mean, torch.full_like(mean, INITIAL_STD),
            num_candidates=100, num_elites=10, num_iterations=recorder.budget,
        )  # fmt: skip


def peers() -> dict[str, Minimiser]:
    """Make the peers that are installed."""
    found: dict[str, Minimiser] = {_SCIPY: one_by_one(_SCIPY, differential_evolution)}
    if find_spec("cma"):
        found["pycma"] = pycma
    if find_spec("evotorch"):
        solvers = {"evotorch CEM": evotorch_cem, "evotorch CMA-ES": evotorch_cmaes}
        found |= {name: one_by_one(name, solve) for name, solve in solvers.items()}
    return found
