"""Checks of the solvers' options. Each error states the rule and the value that broke it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lit_dcem.solvers.ranking import is_free_to_look
from lit_dcem.solvers.types import Bound


def require(holds: bool, rule: str, *got: object) -> None:
    """Raise a ValueError that states the rule and the values got, unless the rule holds."""
    if not holds:
        raise ValueError(f"{rule}, got {' and '.join(map(str, got))}.")


def require_each(holds: Tensor, rule: str, *got: Tensor) -> None:
    """`require` for every element; the error shows the first values that break the rule. Checks on the CPU only."""
    if is_free_to_look(holds) and not holds.all():
        first = int(holds.logical_not().flatten().nonzero()[0])
        require(False, rule, *(each.expand(holds.shape).flatten()[first].item() for each in got))


def plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python ones, sequences as lists; anything else unchanged."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if not isinstance(value, Tensor) and hasattr(value, "tolist"):
        return value.tolist()
    return value


def whole_number(name: str, value: Any) -> int:
    """A count as an int; also accepts NumPy integers and floats without a fraction."""
    if isinstance(value, int):
        return value
    try:
        is_whole = int(value) == value
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    require(is_whole, f"{name} must be a whole number", value)
    return int(value)


def candidates_per_iteration(num_candidates: int | Sequence[int], num_iterations: int) -> tuple[int, ...]:
    """The number of candidates of each iteration."""
    sizes, num_iterations = plain(num_candidates), whole_number("num_iterations", num_iterations)
    if not isinstance(sizes, list):
        return (whole_number("num_candidates", sizes),) * num_iterations
    rule = "num_candidates must be one number, or one for each of num_iterations"
    require(len(sizes) == num_iterations, rule, f"{len(sizes)} numbers", f"{num_iterations} iterations")
    return tuple(whole_number("num_candidates", size) for size in sizes)


def check_options(
    num_candidates: int | Sequence[int],
    num_elites: int,
    num_iterations: int,
    temperature: float | Tensor,
    lower: Bound,
    upper: Bound,
    min_std: float,
    momentum: float,
    num_kept: int,
    noise_exponent: float,
    horizon: int,
    grad_iterations: int | None,
    gradient_clip: float | None,
) -> None:
    """Raise a ValueError for options of `dcem` that are out of range or contradict each other.

    Values of tensors are checked in eager mode on the CPU only.
    """
    for name, count in {"num_elites": num_elites, "horizon": horizon}.items():
        whole_number(name, count)
    check_loop(num_candidates, num_iterations, lower, upper, num_kept, grad_iterations, gradient_clip)
    fewest = min(candidates_per_iteration(num_candidates, num_iterations))
    require(num_elites >= 1, "num_elites must be at least 1", num_elites)
    require(num_elites <= fewest, "num_elites must be at most num_candidates", num_elites, fewest)
    require(0 <= momentum < 1, "momentum must be at least 0 and below 1", momentum)
    require(0 <= min_std < math.inf, "min_std must be at least 0 and finite", min_std)
    require(horizon >= 1, "horizon must be at least 1", horizon)
    require(noise_exponent >= 0, "noise_exponent must be at least 0", noise_exponent)
    require(noise_exponent < math.inf, "noise_exponent must be finite", noise_exponent)
    rule = "noise_exponent needs a horizon above 1"
    require(noise_exponent == 0 or horizon > 1, rule, f"noise_exponent {noise_exponent}", f"horizon {horizon}")
    check_temperature(temperature, "at least 0")


def check_loop(
    num_candidates: int | Sequence[int],
    num_iterations: int,
    lower: Bound,
    upper: Bound,
    num_kept: int,
    grad_iterations: int | None,
    gradient_clip: float | None,
) -> None:
    """Raise a ValueError for options of `minimize` that are out of range or contradict each other."""
    for name, count in {"num_iterations": num_iterations, "num_kept": num_kept}.items():
        whole_number(name, count)
    require(num_iterations >= 1, "num_iterations must be at least 1", num_iterations)
    fewest = min(candidates_per_iteration(num_candidates, num_iterations))
    require(fewest >= 1, "num_candidates must be at least 1", fewest)
    require(0 <= num_kept < fewest, "num_kept must be at least 0 and below num_candidates", num_kept, fewest)
    check_bounds(lower, upper)
    if grad_iterations is not None:
        whole_number("grad_iterations", grad_iterations)
        rule = "grad_iterations must be between 1 and num_iterations"
        require(1 <= grad_iterations <= num_iterations, rule, grad_iterations, num_iterations)
    if gradient_clip is not None:
        require(0 < gradient_clip < math.inf, "gradient_clip must be positive and finite", gradient_clip)


def check_temperature(temperature: float | Tensor, least: Literal["positive", "at least 0"] = "positive") -> None:
    """Raise a ValueError for a temperature that is not finite or too low; those in a tensor must be positive."""
    if not isinstance(temperature, Tensor):
        is_low = temperature < 0 or (temperature == 0 and least == "positive")
        require(not is_low and temperature < math.inf, f"temperature must be {least} and finite", temperature)
    elif is_free_to_look(temperature):
        got = temperature.detach()
        require_each((got > 0) & (got < math.inf), "temperature must be positive and finite", got)


def check_bounds(lower: Bound, upper: Bound) -> None:
    """Raise a ValueError for bounds that are not numbers, or where lower is not below upper; None is infinite."""
    rule = "lower must be below upper"
    low = -math.inf if lower is None else lower
    high = math.inf if upper is None else upper
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        require(low < high, rule, lower, upper)
    elif not torch.compiler.is_compiling():
        lows, highs = _numbers("lower", low), _numbers("upper", high)
        if is_free_to_look(lows) and is_free_to_look(highs):
            fit = all(a == b or 1 in (a, b) for a, b in zip(lows.shape[::-1], highs.shape[::-1], strict=False))
            require(fit, "lower and upper must fit each other", list(lows.shape), list(highs.shape))
            require_each(lows < highs, rule, lows, highs)


def _numbers(name: str, bound: Bound) -> Tensor:
    if isinstance(bound, Tensor):
        return bound.detach()
    rule = f"{name} must be a number, or numbers that broadcast against [B, D]"
    try:
        numbers = torch.tensor(plain(bound), dtype=torch.float64)
    except (TypeError, ValueError):
        require(False, rule, bound)
        raise
    require(numbers.numel() > 0, rule, bound)
    return numbers


def as_bound(name: str, bound: Bound, mean: Tensor) -> Tensor | None:
    """A bound as a tensor of the shape, the precision and the device of ``mean``; None if there is none.

    Raises:
        ValueError: a shape that does not fit.
    """
    if bound is None:
        return None
    tensor = _as_tensor(bound, mean)
    rule = f"{name} must broadcast against [B, D] = {list(mean.shape)}"
    require(_broadcasts(tensor.shape, mean.shape), rule, list(tensor.shape))
    return tensor.to(mean).expand_as(mean)


def _as_tensor(numbers: Any, like: Tensor) -> Tensor:
    """A tensor as it is, and numbers as one of the type and on the device of another tensor."""
    if isinstance(numbers, Tensor):
        return numbers
    if isinstance(numbers := plain(numbers), (int, float)):
        return like.new_full((), numbers)  # filled in, as a copy would wait for an accelerator
    return torch.tensor(numbers, dtype=like.dtype, device=like.device)


def require_row_numbers(name: str, tensor: Tensor, rows: Sequence[int]) -> None:
    """Raise a ValueError unless a tensor broadcasts against one number a row."""
    require(_broadcasts(tensor.shape, (*rows, 1)), f"{name} must broadcast against {[*rows, 1]}", list(tensor.shape))


def _broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a tensor can be expanded to a shape."""
    fits = (ours in (1, theirs) for ours, theirs in zip(reversed(shape), reversed(target), strict=False))
    return len(shape) <= len(target) and all(fits)


def check_distribution(mean: Tensor, warm_start: Tensor | None, first_size: int) -> None:
    """Raise a ValueError for a first distribution that does not fit the problem."""
    fits = isinstance(mean, Tensor) and mean.is_floating_point() and mean.dim() >= 1
    require(fits, "mean must be floating point [*batch, D]", _describe(mean))
    if warm_start is not None:
        sizes = f"[B, D] = {list(mean.shape)} and M below num_candidates ({first_size})"
        rule = f"warm_start must be [B, M, D] with {sizes} (of a planner, M counts its proposals and its last plan)"
        fits = isinstance(warm_start, Tensor) and warm_start.dim() == mean.dim() + 1
        fits = fits and (*warm_start.shape[:-2], warm_start.shape[-1]) == mean.shape
        fits = fits and warm_start.shape[-2] < first_size
        require(fits, rule, list(warm_start.shape) if isinstance(warm_start, Tensor) else type(warm_start).__name__)


def as_std(std: float | Tensor, mean: Tensor) -> Tensor:
    """The first standard deviation in the shape, the precision and on the device of ``mean``.

    Raises:
        ValueError: another shape than that of ``mean`` or of a single number, or (on the CPU) a negative value.
    """
    std = _as_tensor(std, mean)
    fits = std.shape in (mean.shape, ())
    require(fits, "std must have the shape of mean", tuple(std.shape), tuple(mean.shape))
    require_each(~(std.detach() < 0), "std must be at least 0", std.detach())
    return std.to(mean).expand_as(mean)


def _describe(tensor: Any) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__


def arguments_of(function: Callable[..., Any], names: Collection[str]) -> str:
    """The part of a function's docstring that describes some of its arguments, to document others that take them."""
    section = (inspect.getdoc(function) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.split(r"\n(?=    \w)", section)
    return "Args:\n" + "\n".join(entry for entry in entries if entry.strip().partition(":")[0] in names)
