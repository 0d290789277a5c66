"""The one sampling loop behind CEM, DCEM, MPPI and all that `minimize` puts together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.answer import require_finite_values, solution_of
from lit_dcem.solvers.batches import bound_in_rows, objective_in_rows, rows_of, solution_in_batches
from lit_dcem.solvers.distributions import Distribution
from lit_dcem.solvers.iteration import State, Step, as_bounds
from lit_dcem.solvers.noise import AnyNoise
from lit_dcem.solvers.options import as_std, check_distribution, require
from lit_dcem.solvers.precision import full_precision
from lit_dcem.solvers.ranking import is_free_to_look
from lit_dcem.solvers.recompute import recomputed
from lit_dcem.solvers.types import Bound, Iteration, Objective, Solution
from lit_dcem.solvers.weights import AnyWeighting

Generator = torch.Generator | Sequence[torch.Generator] | None
Callback = Callable[[Iteration], None]


@dataclass(frozen=True)
class Loop:
    """``loop(objective, mean, std) -> Solution``; the fields are options of `minimize`, already checked."""

    sizes: tuple[int, ...]
    """candidates in each iteration"""
    weighting: AnyWeighting
    distribution: Distribution
    noise: AnyNoise
    lower: Bound = None
    upper: Bound = None
    standardize: bool = True
    num_kept: int = 0
    warm_start: Float[Tensor, "batch kept dim"] | None = None
    tolerance: float | None = None
    grad_iterations: int | None = None
    gradient_clip: float | None = None
    checkpoint: bool = False
    trace: bool = False
    common_noise: bool = False
    require_finite: bool = False
    callback: Callback | None = None
    generator: Generator = None

    def __call__(self, objective: Objective, mean: Tensor, std: float | Tensor) -> Solution:
        self._check(mean)
        mean = mean if mean.dtype == torch.float64 else mean.float()
        if mean.dim() == 2:
            return self._solve(objective, mean, std)
        batch = mean.shape[:-1]
        lower, upper = (bound_in_rows(name, getattr(self, name), mean) for name in ("lower", "upper"))
        loop = replace(self, lower=lower, upper=upper, warm_start=rows_of(self.warm_start, batch))
        solution = loop._solve(objective_in_rows(objective, batch), rows_of(mean, batch), rows_of(std, batch))
        return solution_in_batches(solution, batch)

    def _solve(self, objective: Objective, mean: Tensor, std: float | Tensor) -> Solution:
        self._check_generators(len(mean))
        bounds = as_bounds(self.lower, self.upper, mean)
        parts = self.weighting, self.distribution, self.standardize, self.num_kept, self.tolerance, self.gradient_clip
        step = Step(objective, bounds, *parts)
        state = step.begin(mean, as_std(std, mean), self.warm_start)
        iterations, counts, with_grad = [], [], torch.is_grad_enabled()
        first_with_grad = 0 if self.grad_iterations is None else len(self.sizes) - int(self.grad_iterations)
        for i, size in enumerate(self.sizes):
            if iterations and _all_ended(state):
                break
            counts.append(state.ended)
            with full_precision(mean):
                noise = self._draw(size if state.kept is None else size - state.kept.shape[1], mean)
            with torch.set_grad_enabled(with_grad and i >= first_with_grad):
                state, iteration = self._advance(step, state, noise)
            iterations.append(iteration)
            if self.callback is not None:
                self.callback(iteration)
        solution = solution_of(step, state, iterations, counts, self.trace)
        if self.require_finite:
            require_finite_values(solution)
        return solution

    def _check(self, mean: Tensor) -> None:
        check_distribution(mean, self.warm_start, self.sizes[0])
        for part in (self.weighting, self.distribution, self.noise):
            if (check_dim := getattr(part, "check_dim", None)) is not None:
                check_dim(mean.shape[-1])

    def _check_generators(self, rows: int) -> None:
        if isinstance(self.generator, Sequence):
            rule = f"generator must be one, or one for each of {rows} problems"
            require(len(self.generator) == rows, rule, len(self.generator))
            require(not self.common_noise, "common_noise must come with a single generator", len(self.generator))

    def _draw(self, count: int, mean: Tensor) -> Float[Tensor, "some_batch count dim"]:
        rows, dim = mean.shape
        if isinstance(self.generator, Sequence):
            return torch.cat([self.noise((1, count, dim), mean, generator) for generator in self.generator])
        return self.noise((1 if self.common_noise else rows, count, dim), mean, self.generator)

    def _advance(self, step: Step, state: State, noise: Tensor) -> tuple[State, Iteration]:
        if self.checkpoint and torch.is_grad_enabled():
            generator = None if isinstance(self.generator, Sequence) else self.generator
            return recomputed(step, state, noise, generator)
        return step(state, noise)


def _all_ended(state: State) -> bool:
    """Whether there is nothing left to do, where looking is free; elsewhere the number of iterations is fixed."""
    return state.ended is not None and is_free_to_look(state.ended) and bool(state.ended.all())
