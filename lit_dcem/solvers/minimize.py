"""Minimise by sampling, with any weighting, any distribution and any noise."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.batches import negated, with_negated_values
from lit_dcem.solvers.distributions import Distribution, Gaussian
from lit_dcem.solvers.loop import Callback, Generator, Loop
from lit_dcem.solvers.noise import AnyNoise, Noise, White
from lit_dcem.solvers.options import arguments_of, candidates_per_iteration, check_loop, require
from lit_dcem.solvers.sampling_solver import SamplingSolver
from lit_dcem.solvers.types import Bound, Objective, Solution
from lit_dcem.solvers.weights import AnyWeighting, SoftTopK

TEN_ELITES = SoftTopK(10)
GAUSSIAN = Gaussian()
WHITE = White()


def minimize(
    objective: Objective,
    mean: Float[Tensor, "*batch dim"],
    std: float | Float[Tensor, "*batch dim"] | Float[Tensor, ""] = 1.0,
    *,
    weighting: AnyWeighting = TEN_ELITES,
    distribution: Distribution = GAUSSIAN,
    noise: AnyNoise = WHITE,
    num_candidates: int | Sequence[int] = 100,
    num_iterations: int = 10,
    lower: Bound = None,
    upper: Bound = None,
    standardize: bool = True,
    num_kept: int = 0,
    warm_start: Float[Tensor, "*batch kept dim"] | None = None,
    tolerance: float | None = None,
    maximize: bool = False,
    grad_iterations: int | None = None,
    gradient_clip: float | None = None,
    checkpoint: bool = False,
    trace: bool = False,
    common_noise: bool = False,
    require_finite: bool = False,
    callback: Callback | None = None,
    generator: Generator = None,
) -> Solution:
    """Minimise ``objective`` for each problem of a batch by sampling, and let gradients through the minimiser.

    Each iteration draws candidates from a distribution, weights them by their scores, which are minus the values, and
    fits the distribution to the weighted candidates. `TopK` makes this CEM, `SoftTopK` DCEM, `Softmax` MPPI. What
    `dcem` says about broken candidates, independent problems and half precision holds here, too.

    Args:
        objective: maps candidates ``[*batch, N, D]`` to values ``[*batch, N]``.
        mean: where the search begins, ``[*batch, D]``; without batch dimensions, one problem.
        std: of the first candidates, ``[*batch, D]`` or one number; zeros are allowed.
        weighting: ``scores [B, N] -> weights [B, N]``; B is the number of problems.
        distribution: that candidates are drawn from.
        noise: ``(shape, like, generator) -> standard normal numbers [B, N, D]``.
        num_candidates: candidates in an iteration, or one number for each iteration.
        num_iterations: number of times the distribution is sampled and fitted.
        lower: bound of candidates and answer, a number or numbers that broadcast against ``[*batch, D]``.
        upper: as ``lower``, and above it.
        standardize: shift and scale each problem's scores to mean 0 and standard deviation 1 in each iteration, so that
            a temperature does not depend on the scale of the objective.
        num_kept: number of best candidates of an iteration that replace fresh ones in the next iteration.
        warm_start: candidates ``[*batch, M, D]`` that replace fresh ones in the first iteration.
        tolerance: a problem ends when its standard deviation is at most this in every dimension; it then keeps its
            distribution. Where looking is free (on a CPU, in eager mode) the search ends with the last problem.
        maximize: look for the largest value instead; the values in the solution are those of ``objective``.
        grad_iterations: number of last iterations to differentiate; earlier ones run without a graph. None: all.
        gradient_clip: shorten the gradient through the scores of each problem to this norm, as in `dcem`.
        checkpoint: recompute each iteration in the backward pass, as in `dcem`.
        trace: also return every iteration.
        common_noise: give all problems of the batch the same noise (common random numbers).
        require_finite: raise if a problem has no finite value, instead of returning NaN. This reads values back.
        callback: called with each `Iteration` after it; its values are to be minimised. For eager mode.
        generator: source of all noise, or one for each problem, so that an answer does not depend on the rest of the
            batch; torch's global generator if None.

    Returns:
        a `Solution`.

    Raises:
        ValueError: an option is out of range, a shape does not fit, or, with ``require_finite``, a problem has no
            finite value.
        RuntimeError: in the backward pass, if a checkpointed objective returns other values than before.
    """
    check_loop(num_candidates, num_iterations, lower, upper, num_kept, grad_iterations, gradient_clip)
    _check(weighting, distribution, num_candidates, num_iterations, tolerance, grad_iterations)
    loop = Loop(
        sizes=candidates_per_iteration(num_candidates, num_iterations),
        weighting=weighting,
        distribution=distribution,
        noise=noise,
        lower=lower,
        upper=upper,
        standardize=standardize,
        num_kept=int(num_kept),
        warm_start=warm_start,
        tolerance=tolerance,
        grad_iterations=grad_iterations,
        gradient_clip=gradient_clip,
        checkpoint=checkpoint,
        trace=trace,
        common_noise=common_noise,
        require_finite=require_finite,
        callback=callback,
        generator=generator,
    )
    if not maximize:
        return loop(objective, mean, std)
    return with_negated_values(loop(negated(objective), mean, std))


def _check(
    weighting: AnyWeighting,
    distribution: Distribution,
    num_candidates: int | Sequence[int],
    num_iterations: int,
    tolerance: float | None,
    grad_iterations: int | None,
) -> None:
    fewest = min(candidates_per_iteration(num_candidates, num_iterations))
    elites = getattr(weighting, "num_elites", None) or 1  # not all weightings have elites, or a fixed number
    require(elites <= fewest, "num_elites must be at most num_candidates", elites, fewest)
    fits = not getattr(weighting, "negative", False) or distribution.takes_negative_weights
    require(fits, "Negative weights must come with a distribution that takes them, such as CMA", distribution)
    if tolerance is not None:
        require(0 <= tolerance < math.inf, "tolerance must be at least 0 and finite", tolerance)
        # Where a problem ends is not known before, so neither are its last iterations.
        require(grad_iterations is None, "tolerance must come without grad_iterations", grad_iterations)


class Minimizer(SamplingSolver):
    """`minimize` as a module that stores its options, which are described there.

    The attribute ``options`` maps the name of every option to its value. NumPy values are stored as Python ones.

    Raises:
        ValueError: an option out of range.
        TypeError: an unknown option.
    """

    def __init__(
        self,
        *,
        weighting: AnyWeighting = TEN_ELITES,
        distribution: Distribution = GAUSSIAN,
        noise: AnyNoise = WHITE,
        num_candidates: int | Sequence[int] = 100,
        num_iterations: int = 10,
        lower: Bound = None,
        upper: Bound = None,
        standardize: bool = True,
        num_kept: int = 0,
        warm_start: Float[Tensor, "*batch kept dim"] | None = None,
        tolerance: float | None = None,
        maximize: bool = False,
        grad_iterations: int | None = None,
        gradient_clip: float | None = None,
        checkpoint: bool = False,
        trace: bool = False,
        common_noise: bool = False,
        require_finite: bool = False,
        callback: Callback | None = None,
        generator: Generator = None,
    ) -> None:
        given = locals()
        super().__init__({name: given[name] for name in OPTIONS})
        check_loop(num_candidates, num_iterations, lower, upper, num_kept, grad_iterations, gradient_clip)
        _check(weighting, distribution, num_candidates, num_iterations, tolerance, grad_iterations)

    def forward(self, objective: Objective, mean: Tensor, std: float | Tensor = 1.0) -> Solution:
        return minimize(objective, mean, std, **self.options)

    def with_horizon(self, horizon: int) -> Minimizer:
        noise = self.options["noise"]
        return self.replace(noise=noise.with_horizon(horizon)) if isinstance(noise, Noise) else self

    @property
    def is_differentiable(self) -> bool:
        """Whether gradients pass through the weights; a weighting says so by ``is_differentiable``, true by default."""
        return getattr(self.options["weighting"], "is_differentiable", True)

    def check_dim(self, dim: int) -> None:
        """Raise a ValueError if distribution or noise do not fit problems of D = ``dim`` dimensions."""
        for part in ("distribution", "noise"):
            check = getattr(self.options[part], "check_dim", None)
            if check is not None:
                check(dim)


OPTIONS: dict[str, Any] = {
    p.name: p.default for p in inspect.signature(minimize).parameters.values() if p.kind is p.KEYWORD_ONLY
}
"""The options of `minimize` and their defaults."""
Minimizer.defaults = OPTIONS
# Each option is described once, at minimize; the help of the command line reads this.
Minimizer.__init__.__doc__ = f"Hold the options.\n\n{arguments_of(minimize, OPTIONS)}"
