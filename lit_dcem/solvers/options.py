"""What the solvers accept: each rule stated with the value that broke it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def require(holds: bool, rule: str, *got: object) -> None:
    """Raise a ValueError of one sentence, the rule and then what came, unless the rule holds."""
    if not holds:
        raise ValueError(f"{rule}, got {' and '.join(map(str, got))}.")


def candidates_per_iteration(num_candidates: int | Sequence[int], num_iterations: int) -> tuple[int, ...]:
    """The number of candidates of each iteration."""
    if isinstance(num_candidates, int):
        return (num_candidates,) * num_iterations
    sizes = tuple(num_candidates)
    rule = "num_candidates must be one number, or one for each of num_iterations"
    require(len(sizes) == num_iterations, rule, f"{len(sizes)} numbers", f"{num_iterations} iterations")
    return sizes


def check_options(
    num_candidates: int | Sequence[int],
    num_elites: int,
    num_iterations: int,
    temperature: float | Tensor,
    lower: float | Tensor | None,
    upper: float | Tensor | None,
    min_std: float,
    momentum: float,
    num_kept: int,
    noise_exponent: float,
    horizon: int,
    grad_iterations: int | None,
) -> None:
    """Raise a ValueError for options of `dcem` that make no sense, alone or together."""
    require(num_iterations >= 1, "num_iterations must be at least 1", num_iterations)
    fewest = min(candidates_per_iteration(num_candidates, num_iterations))
    require(num_elites >= 1, "num_elites must be at least 1", num_elites)
    require(num_elites <= fewest, "num_elites must be at most num_candidates", num_elites, fewest)
    require(0 <= num_kept < fewest, "num_kept must be at least 0 and below num_candidates", num_kept, fewest)
    require(0 <= momentum < 1, "momentum must be at least 0 and below 1", momentum)
    require(0 <= min_std < math.inf, "min_std must be at least 0 and finite", min_std)
    require(horizon >= 1, "horizon must be at least 1", horizon)
    require(noise_exponent >= 0, "noise_exponent must be at least 0", noise_exponent)
    rule = "noise_exponent needs a horizon above 1"
    require(noise_exponent == 0 or horizon > 1, rule, f"noise_exponent {noise_exponent}", f"horizon {horizon}")
    if not isinstance(temperature, Tensor):
        require(0 <= temperature < math.inf, "temperature must be at least 0 and finite", temperature)
    if not (lower is None or upper is None or isinstance(lower, Tensor) or isinstance(upper, Tensor)):
        require(lower < upper, "lower must be below upper", lower, upper)
    if grad_iterations is not None:
        rule = "grad_iterations must be between 1 and num_iterations"
        require(1 <= grad_iterations <= num_iterations, rule, grad_iterations, num_iterations)


def check_distribution(mean: Tensor, std: Tensor, warm_start: Tensor | None, first_size: int, horizon: int) -> None:
    """Raise a ValueError for a first distribution that does not fit the problem."""
    require(mean.is_floating_point() and mean.dim() == 2, "mean must be floating point [B, D]", _describe(mean))
    require(std.shape == mean.shape, "std must have the shape of mean", tuple(std.shape), tuple(mean.shape))
    dim = mean.shape[1]
    require(dim % horizon == 0, "horizon must divide the dimension of the problem", horizon, dim)
    if warm_start is not None:
        rule = (
            f"warm_start must be [B, M, D] with [B, D] = {list(mean.shape)} and M below num_candidates ({first_size})"
        )
        batch, dim = mean.shape
        fits = warm_start.dim() == 3 and warm_start.shape[::2] == (batch, dim) and warm_start.shape[1] < first_size
        require(fits, rule, list(warm_start.shape))


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
