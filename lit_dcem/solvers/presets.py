"""Known methods as settings of `Minimizer`. Each also takes the other options of `Minimizer`."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from lit_dcem.solvers.cma import CMA
from lit_dcem.solvers.distributions import Gaussian
from lit_dcem.solvers.minimize import Minimizer
from lit_dcem.solvers.noise import noise_of
from lit_dcem.solvers.options import require, whole_number
from lit_dcem.solvers.weights import LogRank, Softmax, TopK


def mppi(temperature: float | Tensor = 1.0, **options: Any) -> Minimizer:
    r"""Model predictive path integral control (Williams et al. 2017): a softmax mean, with a fixed standard deviation.

    .. math:: x_i = \mu + \sigma \epsilon_i, \qquad
        w_i = \frac{\exp(-f(x_i) / \tau)}{\sum_j \exp(-f(x_j) / \tau)}, \qquad \mu_\mathrm{new} = \sum_i w_i x_i

    Differentiable, in the temperature, too. The weights go by the values as they are.

    Args:
        temperature: in the units of the objective; lower is greedier.
        options: of `Minimizer`; by default one iteration.

    Raises:
        ValueError: a temperature that is not positive, or an option of `Minimizer` out of range.
    """
    settings = {"num_iterations": 1, "standardize": False, "distribution": Gaussian(fixed_std=True)}
    return Minimizer(**{**settings, "weighting": Softmax(temperature), **options})


def icem(
    num_candidates: int = 100,
    num_elites: int = 10,
    num_iterations: int = 3,
    horizon: int = 1,
    noise_exponent: float = 0.0,
    decay: float = 1.25,
    momentum: float = 0.1,
    **options: Any,
) -> Minimizer:
    """Sample-efficient CEM (iCEM, Pinneri et al. 2020): kept elites, momentum, coloured noise, ever fewer candidates.

    Args:
        num_candidates: of the first iteration.
        num_elites: of each iteration; three tenths of them are kept.
        num_iterations: number of iterations.
        horizon: time steps in a point, for coloured noise.
        noise_exponent: of the noise, 0 white; the paper takes 0.25 to 3.5 by task, the more the slower it reacts.
        decay: each iteration has this many times fewer candidates, down to twice the elites.
        momentum: weight of the old distribution.
        options: of `Minimizer`.

    Raises:
        ValueError: a decay below 1, or an option of `Minimizer` out of range.
    """
    require(decay >= 1, "decay must be at least 1", decay)
    sizes = [max(int(num_candidates * decay**-i), min(num_candidates, 2 * num_elites)) for i in range(num_iterations)]
    settings = {"weighting": TopK(num_elites), "distribution": Gaussian(momentum=momentum), "standardize": False}
    settings |= {"noise": noise_of(noise_exponent, horizon), "num_kept": max(1, round(0.3 * num_elites))}
    return Minimizer(**{**settings, "num_candidates": sizes, "num_iterations": num_iterations, **options})


def cma(dim: int, num_evaluations: int = 10_000, population: float = 1.0, **options: Any) -> Minimizer:
    """Covariance matrix adaptation (CMA-ES, Hansen 2016) with restarts, for correlated or badly scaled dimensions.

    The best point of the solution is the answer: its mean is that of the last run, which may have just begun.

    Args:
        dim: D, the size of a point.
        num_evaluations: of the objective for each problem, at most, before the last mean.
        population: candidates of an iteration, in multiples of the usual 4 + 3 log D; 4 for functions with many minima.
        options: of `Minimizer`.

    Raises:
        ValueError: no dimension, a population of fewer than 2 candidates, or of more than ``num_evaluations``.
    """
    dim = whole_number("dim", dim)
    require(dim >= 1, "dim must be at least 1", dim)
    size = int(population * (4 + int(3 * math.log(dim))))
    require(size >= 2, "cma needs at least 2 candidates in an iteration", size)
    require(
        size <= num_evaluations, "candidates of an iteration must be at most num_evaluations", size, num_evaluations
    )
    settings = {"weighting": LogRank(negative=True), "distribution": CMA(restart_below=1e-10), "standardize": False}
    settings |= {"num_candidates": size, "num_iterations": num_evaluations // size}
    return Minimizer(**{**settings, **options})
