"""The cross-entropy method and its differentiable form: one sampling loop, with a hard or a soft top-k plugged in.

Algorithm 1 and section 3 of the DCEM paper. CEM is DCEM at ``temperature=0``; there is no second loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.answer import require_finite_values, solution_of
from lit_dcem.solvers.noise import coloured_noise
from lit_dcem.solvers.options import (
    arguments_of,
    as_std,
    candidates_per_iteration,
    check_distribution,
    check_options,
    plain,
    require,
)
from lit_dcem.solvers.recompute import recomputed
from lit_dcem.solvers.refit import Refit, State, as_bounds, clamped
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Bound, Iteration, Objective, Solution


def dcem(
    objective: Objective,
    mean: Float[Tensor, "batch dim"],
    std: float | Float[Tensor, "batch dim"] | Float[Tensor, ""],
    *,
    num_candidates: int | Sequence[int] = 100,
    num_elites: int = 10,
    num_iterations: int = 10,
    temperature: float | Tensor = 1.0,
    lower: Bound = None,
    upper: Bound = None,
    standardize: bool = True,
    min_std: float = 0.0,
    momentum: float = 0.0,
    num_kept: int = 0,
    warm_start: Float[Tensor, "batch kept dim"] | None = None,
    noise_exponent: float = 0.0,
    horizon: int = 1,
    grad_iterations: int | None = None,
    checkpoint: bool = False,
    trace: bool = False,
    common_noise: bool = False,
    require_finite: bool = False,
    generator: torch.Generator | None = None,
) -> Solution:
    """Minimise ``objective`` for each problem of a batch by sampling, and let gradients through the minimiser.

    Each iteration draws candidates from a Gaussian, weights them by `lml` of minus their values, and refits mean and
    variance to the weighted candidates (section 3 of the paper). Gradients reach whatever the objective depends on,
    ``mean``, ``std`` and ``temperature``. Problems do not influence each other. Half precision ``mean`` and ``std`` are
    widened to float32.

    A candidate that is NaN or infinite, or has such a value, is broken: it gets weight 0 and gradient 0. In an
    iteration that has nothing else, a problem keeps its distribution. A problem of which all candidates are broken is
    answered with NaN by itself.

    An objective's own derivative may be NaN at a broken candidate, and then stays NaN when multiplied by 0 (the square
    root of a negative number). In eager mode on the CPU the objective is therefore called again, if a value that needs
    a gradient is broken, with each broken candidate moved onto the best one of its problem. Elsewhere looking would
    stall the stream or break the graph, and where the problem itself is NaN nothing helps: there the objective has to
    keep NaN out of its own derivative.

    Args:
        objective: maps candidates ``[B, N, D]`` to values ``[B, N]``.
        mean: of the first sampling distribution, ``[B, D]``.
        std: of the first sampling distribution, ``[B, D]`` or one number; zeros are allowed.
        num_candidates: candidates in an iteration, or one number for each iteration (the schedule of iCEM).
        num_elites: what the weights sum to, from 1 to the number of candidates.
        num_iterations: how often the distribution is sampled and refitted.
        temperature: of the soft top-k: weights see ``-values / temperature``. 0 is the hard top-k, that is CEM.
            A tensor is positive and broadcasts against ``[B, 1]``.
        lower: bound, a number or numbers that broadcast against ``[B, D]``; candidates and answer are clamped to it.
        upper: as ``lower``, and above it.
        standardize: subtract the mean of a problem's values and divide by their standard deviation, in each iteration,
            so that the temperature does not depend on the scale of the objective.
        min_std: least standard deviation after a refit.
        momentum: share of the old mean and standard deviation in the new ones, in [0, 1).
        num_kept: so many of the best candidates of an iteration take part in the next one, in place of fresh ones.
        warm_start: candidates ``[B, M, D]`` that take part in the first iteration, in place of fresh ones.
        noise_exponent: the noise has power ``1 / frequency ** noise_exponent`` along time (0 white, 1 pink, 2 red),
            for answers that are ``horizon`` steps of actions, time first.
        horizon: time steps in D, for coloured noise.
        grad_iterations: differentiate the last so many iterations only; the others run without a graph.
        checkpoint: recompute each iteration in the backward pass: memory hardly grows with the iterations. What the
            objective draws from torch's global generators or from ``generator`` is drawn again. Other random numbers
            cannot be: on the CPU in eager mode values that differ raise, elsewhere the gradient is wrong.
        trace: return every iteration, too.
        common_noise: all problems of the batch see the same noise (common random numbers), so that with the same seed
            an answer does not depend on what else is in the batch; else each sees its own.
        require_finite: raise if a problem has no finite value, instead of answering it with NaN. This reads values
            back, which an accelerator has to wait for, and which ``torch.compile(fullgraph=True)`` and
            ``torch.func.vmap`` do not allow.
        generator: the only source of randomness; the global one if none is given.

    Returns:
        a `Solution`; its ``mean`` is the paper's answer.

    Raises:
        ValueError: an option out of range, a shape that does not fit, or, if asked for, a problem without a finite
            value. Values of tensors (bounds, std, temperature) are checked on the CPU in eager mode.
        RuntimeError: in the backward pass, a checkpointed objective that gives other values when called again.
    """
    check_options(
        num_candidates, num_elites, num_iterations, temperature, lower, upper, min_std, momentum, num_kept,
        noise_exponent, horizon, grad_iterations,
    )  # fmt: skip
    sizes = candidates_per_iteration(num_candidates, num_iterations)
    horizon, num_elites, num_kept = (int(count) for count in (horizon, num_elites, num_kept))
    check_distribution(mean, warm_start, sizes[0], horizon)
    mean = _widened(mean)
    bounds = as_bounds(lower, upper, mean)
    refit = Refit(objective, bounds, num_elites, temperature, standardize, min_std, momentum, num_kept)
    state = State(mean, as_std(std, mean), warm_start)
    iterations: list[Iteration] = []
    with_grad = torch.is_grad_enabled()
    rows = 1 if common_noise else mean.shape[0]
    first_with_grad = 0 if grad_iterations is None else len(sizes) - int(grad_iterations)
    for i, size in enumerate(sizes):
        fresh = size if state.kept is None else size - state.kept.shape[1]
        noise = coloured_noise((rows, fresh, mean.shape[1]), noise_exponent, horizon, mean, generator)
        with torch.set_grad_enabled(with_grad and i >= first_with_grad):
            if checkpoint and torch.is_grad_enabled():
                state, iteration = recomputed(refit, state, noise, generator)
            else:
                state, iteration = refit(state, noise)
        iterations.append(iteration)
    solution = solution_of(objective, state, iterations, trace)
    if require_finite:
        require_finite_values(solution)
    return solution


def cem(objective: Objective, mean: Tensor, std: float | Tensor, **options: Any) -> Solution:
    """`dcem` with the hard top-k, ``temperature=0``: takes all its other options and returns the same `Solution`."""
    return dcem(objective, mean, std, temperature=0.0, **options)


class DCEM(Solver):
    """`dcem` as a module that holds its options, described there; NumPy's numbers and arrays become Python's.

    ``options`` has all of them by name.

    Raises:
        ValueError: an option out of range.
        TypeError: an unknown option.
    """

    def __init__(
        self,
        *,
        num_candidates: int | Sequence[int] = 100,
        num_elites: int = 10,
        num_iterations: int = 10,
        temperature: float | Tensor = 1.0,
        lower: Bound = None,
        upper: Bound = None,
        standardize: bool = True,
        min_std: float = 0.0,
        momentum: float = 0.0,
        num_kept: int = 0,
        warm_start: Float[Tensor, "batch kept dim"] | None = None,
        noise_exponent: float = 0.0,
        horizon: int = 1,
        grad_iterations: int | None = None,
        checkpoint: bool = False,
        trace: bool = False,
        common_noise: bool = False,
        require_finite: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        given = locals()
        super().__init__()
        self.options = {name: plain(given[name]) for name in OPTIONS}
        check_options(**{name: self.options[name] for name in CHECKED})

    def forward(self, objective: Objective, mean: Tensor, std: float | Tensor) -> Solution:
        return dcem(objective, mean, std, **self.options)

    def clamp(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Points within the bounds of the search."""
        return clamped(points, as_bounds(self.options["lower"], self.options["upper"], points))

    @property
    def temperature(self) -> float | Tensor:
        """Of the soft top-k; 0 for the hard one."""
        return self.options["temperature"]

    @property
    def is_differentiable(self) -> bool:
        """Whether gradients pass through the search: at temperature 0, that is CEM, none do."""
        return isinstance(self.temperature, Tensor) or self.temperature != 0

    def replace(self, **changes: Any) -> DCEM:
        """A solver with some options changed."""
        return DCEM(**{**self.options, **changes})

    def traced(self, num_iterations: int | None = None) -> DCEM:
        """A copy that returns a trace, with another number of iterations if one is given."""
        return self.replace(trace=True, **({} if num_iterations is None else {"num_iterations": num_iterations}))

    @property
    def num_evaluations(self) -> int:
        """Candidates of all iterations, for each problem."""
        return sum(candidates_per_iteration(self.options["num_candidates"], self.options["num_iterations"]))

    def check_dim(self, dim: int) -> None:
        """Raise a ValueError unless ``horizon`` divides the size of an answer."""
        horizon = self.options["horizon"]
        require(dim % horizon == 0, "horizon of a solver must divide the size of its answers", horizon, dim)

    def extra_repr(self) -> str:
        """The options that differ from the defaults."""
        changed = {
            name: value for name, value in self.options.items() if isinstance(value, Tensor) or value != OPTIONS[name]
        }
        return ", ".join(f"{name}={value}" for name, value in changed.items())


OPTIONS = {p.name: p.default for p in inspect.signature(dcem).parameters.values() if p.kind is p.KEYWORD_ONLY}
"""The options of `dcem` and their defaults."""
CHECKED = tuple(inspect.signature(check_options).parameters)
"""options that make sense or not whatever the problem"""
# Each option is described once, at dcem; the help of the command line reads this.
DCEM.__init__.__doc__ = f"Hold the options.\n\n{arguments_of(dcem, OPTIONS)}"


def _widened(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
