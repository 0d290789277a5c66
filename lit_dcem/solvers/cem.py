"""The cross-entropy method and its differentiable form: one sampling loop with a hard or a soft top-k.

Algorithm 1 and section 3 of the DCEM paper. CEM is DCEM at ``temperature=0``; there is no second loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.distributions import Gaussian
from lit_dcem.solvers.minimize import minimize
from lit_dcem.solvers.noise import Coloured
from lit_dcem.solvers.options import arguments_of, check_options, require
from lit_dcem.solvers.sampling_solver import SamplingSolver
from lit_dcem.solvers.types import Bound, Objective, Solution
from lit_dcem.solvers.weights import SoftTopK, TopK


def dcem(
    objective: Objective,
    mean: Float[Tensor, "*batch dim"],
    std: float | Float[Tensor, "*batch dim"] | Float[Tensor, ""],
    *,
    num_candidates: int | Sequence[int] = 100,
    num_elites: int = 10,
    num_iterations: int = 10,
    temperature: float | Tensor = 1.0,
    lower: Bound = None,
    upper: Bound = None,
    standardize: bool = True,
    min_std: float = 0.0,
    unbiased: bool = False,
    momentum: float = 0.0,
    num_kept: int = 0,
    warm_start: Float[Tensor, "batch kept dim"] | None = None,
    noise_exponent: float = 0.0,
    horizon: int = 1,
    grad_iterations: int | None = None,
    gradient_clip: float | None = None,
    checkpoint: bool = False,
    trace: bool = False,
    common_noise: bool = False,
    require_finite: bool = False,
    generator: torch.Generator | None = None,
) -> Solution:
    r"""Minimise ``objective`` for each problem of a batch by sampling, and let gradients through the minimiser.

    Each iteration draws N candidates from a Gaussian, weights them by `lml` of minus their values, and refits mean and
    variance to the weighted candidates (section 3 of the paper):

    .. math:: x_i = \mu + \sigma \epsilon_i, \qquad s_i = -\frac{f(x_i) - \bar f}{\mathrm{sd}(f)}, \qquad
        w_i = \mathrm{sigmoid}\left(\frac{s_i + \nu}{\tau}\right), \qquad \sum_i w_i = k

    .. math:: \mu_\mathrm{new} = \frac{1}{k} \sum_i w_i x_i, \qquad
        \sigma^2_\mathrm{new} = \max\left(\sigma_\mathrm{min}^2,\;
        \frac{1}{k} \sum_i w_i (x_i - \mu_\mathrm{new})^2\right)

    The scores s standardize the values (sd divides by N). The deviation sigma_min is ``min_std``, but at least 3e-10 in
    float32. Momentum follows the refit, then the mean is clamped to the bounds, as the candidates are.

    Gradients reach whatever the objective depends on, ``mean``, ``std`` and ``temperature``. Problems are independent
    of each other. Half precision ``mean`` and ``std`` are widened to float32.

    A candidate is broken if it, or its value, is NaN or infinite: it gets weight 0 and gradient 0. If all candidates
    of an iteration are broken, the problem keeps its distribution. If all candidates of all iterations are broken, the
    solution of that problem is NaN; other problems are not affected.

    The derivative of an objective may be NaN at a broken candidate (the square root of a negative number), and NaN
    times weight 0 is still NaN. In eager mode on the CPU, if a broken value needs a gradient, the objective is
    therefore called again with each broken candidate replaced by the best one of its problem. On accelerators and in
    compiled graphs, where checking would cost a synchronisation or a graph break, and for problems that are
    themselves NaN, the objective must keep NaN out of its own derivative.

    Args:
        objective: maps candidates ``[B, N, D]`` to values ``[B, N]``; with more batch dimensions than one, or none, all
            shapes here have them in place of B.
        mean: of the first sampling distribution, ``[B, D]``.
        std: of the first sampling distribution, ``[B, D]`` or one number; zeros are allowed.
        num_candidates: candidates in an iteration, or one number for each iteration (the schedule of iCEM).
        num_elites: number of elites, from 1 to the number of candidates; the weights sum to it.
        num_iterations: number of times the distribution is sampled and refitted.
        temperature: of the soft top-k, which divides the values by it. 0 is the hard top-k, that is CEM. A tensor must
            be positive and broadcast against ``[B, 1]``, where B is the number of problems.
        lower: bound of candidates and answer, a number or numbers that broadcast against ``[B, D]``.
        upper: as ``lower``, and above it.
        standardize: shift and scale each problem's values to mean 0 and standard deviation 1 in each iteration, so that
            the temperature does not depend on the scale of the objective.
        min_std: lower bound of the standard deviation after a refit.
        unbiased: refit the standard deviation with k - 1 in place of k elites (`Gaussian`), for searches with few.
        momentum: weight of the old mean and standard deviation in the new ones, in [0, 1).
        num_kept: number of best candidates of an iteration that replace fresh ones in the next iteration.
        warm_start: candidates ``[B, M, D]`` that replace fresh ones in the first iteration.
        noise_exponent: noise has power ``1 / frequency ** noise_exponent`` along time (0 white, 1 pink, 2 red). A point
            is then ``horizon`` steps of actions, time first.
        horizon: number of time steps in D, for coloured noise.
        grad_iterations: number of last iterations to differentiate; earlier ones run without a graph. None: all.
        gradient_clip: most that the norm of a problem's gradient through the scores of its candidates may be, in each
            iteration; a longer one is shortened. The gradient is that of the whole loss: where that is a mean over B
            problems, a problem's own value weighs 1 / B. In a batch, the gradients of a few searches may be a
            hundred times as long as those of others.
        checkpoint: recompute each iteration in the backward pass, so that memory hardly grows with the number of
            iterations. Random numbers that the objective draws from torch's global generators or from ``generator``
            are reproduced. Others are not: in eager mode on the CPU, different values raise an error; elsewhere the
            gradient is wrong. Not inside transforms of ``torch.func``, which have no hooks for saved tensors.
        trace: also return every iteration.
        common_noise: give all problems of the batch the same noise (common random numbers), so that with the same seed
            an answer does not depend on the rest of the batch.
        require_finite: raise if a problem has no finite value, instead of returning NaN. This reads values back, which
            synchronises an accelerator and which ``torch.compile(fullgraph=True)`` and ``torch.func.vmap`` do not
            allow.
        generator: source of all noise; torch's global generator if None.

    Returns:
        a `Solution`; its ``mean`` is the paper's answer.

    Raises:
        ValueError: an option is out of range, a shape does not fit, or, with ``require_finite``, a problem has no
            finite value. Values of tensors (bounds, std, temperature) are checked in eager mode on the CPU only.
        RuntimeError: in the backward pass, if a checkpointed objective returns other values than before.
    """
    check_options(
        num_candidates, num_elites, num_iterations, temperature, lower, upper, min_std, momentum, num_kept,
        noise_exponent, horizon, grad_iterations, gradient_clip,
    )  # fmt: skip
    is_hard = not isinstance(temperature, Tensor) and temperature == 0
    return minimize(
        objective,
        mean,
        std,
        weighting=TopK(int(num_elites)) if is_hard else SoftTopK(int(num_elites), temperature),
        distribution=Gaussian(min_std, momentum, unbiased=unbiased),
        noise=Coloured(noise_exponent, int(horizon)),
        num_candidates=num_candidates,
        num_iterations=num_iterations,
        lower=lower,
        upper=upper,
        standardize=standardize and not is_hard,
        num_kept=num_kept,
        warm_start=warm_start,
        grad_iterations=grad_iterations,
        gradient_clip=gradient_clip,
        checkpoint=checkpoint,
        trace=trace,
        common_noise=common_noise,
        require_finite=require_finite,
        generator=generator,
    )


def cem(objective: Objective, mean: Tensor, std: float | Tensor, **options: Any) -> Solution:
    r"""`dcem` with the hard top-k (``temperature=0``): the refit is to the set E of the k candidates of least value.

    .. math:: \mu_\mathrm{new} = \frac{1}{k} \sum_{i \in E} x_i, \qquad
        \sigma^2_\mathrm{new} = \max\left(\sigma_\mathrm{min}^2,\;
        \frac{1}{k} \sum_{i \in E} (x_i - \mu_\mathrm{new})^2\right)

    It takes the other options of `dcem`.
    """
    return dcem(objective, mean, std, temperature=0.0, **options)


class DCEM(SamplingSolver):
    r"""`dcem` as a module that stores its options, which are described there.

    Called with an objective f, mean and standard deviation, it approximates the minimiser within the bounds l and u:

    .. math:: \hat x \approx \arg\min_{l \le x \le u} f(x)

    The attribute ``options`` maps the name of every option to its value. NumPy values are stored as Python ones.

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
        unbiased: bool = False,
        momentum: float = 0.0,
        num_kept: int = 0,
        warm_start: Float[Tensor, "batch kept dim"] | None = None,
        noise_exponent: float = 0.0,
        horizon: int = 1,
        grad_iterations: int | None = None,
        gradient_clip: float | None = None,
        checkpoint: bool = False,
        trace: bool = False,
        common_noise: bool = False,
        require_finite: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        given = locals()
        super().__init__({name: given[name] for name in OPTIONS})
        check_options(**{name: self.options[name] for name in CHECKED})

    def forward(self, objective: Objective, mean: Tensor, std: float | Tensor) -> Solution:
        return dcem(objective, mean, std, **self.options)

    @property
    def temperature(self) -> float | Tensor:
        """Of the soft top-k, tau in ``w_i = sigmoid((s_i + nu) / tau)``; 0 for the hard one."""
        return self.options["temperature"]

    @property
    def is_differentiable(self) -> bool:
        """Whether gradients pass through the search; at temperature 0 (CEM) they do not."""
        return isinstance(self.temperature, Tensor) or self.temperature != 0

    def check_dim(self, dim: int) -> None:
        """Raise a ValueError unless ``horizon`` divides the size of an answer."""
        horizon = self.options["horizon"]
        require(dim % horizon == 0, "horizon of a solver must divide the size of its answers", horizon, dim)


OPTIONS = {p.name: p.default for p in inspect.signature(dcem).parameters.values() if p.kind is p.KEYWORD_ONLY}
"""The options of `dcem` and their defaults."""
CHECKED = tuple(inspect.signature(check_options).parameters)
"""names of the options that can be checked without a problem"""
DCEM.defaults = OPTIONS
# Each option is described once, at dcem; the help of the command line reads this.
DCEM.__init__.__doc__ = f"Hold the options.\n\n{arguments_of(dcem, OPTIONS)}"
