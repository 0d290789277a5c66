"""The noise that candidates are made of: white, coloured along time, or smooth splines over few knots.

Noise is any function ``(shape, like, generator) -> noise``: standard normal numbers of a shape ``(B, N, D)``, with the
type and device of the tensor ``like``. `Noise` is the base class of those that a config can name. Antithetic noise, for
example::

    def antithetic(shape, like, generator):
        rows, count, dim = shape
        half = torch.randn((rows, (count + 1) // 2, dim), generator=generator, dtype=like.dtype, device=like.device)
        return torch.cat([half, -half], 1)[:, :count]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.options import require, whole_number

Shape = tuple[int, int, int]


class Noise(ABC):
    """``noise(shape, like, generator) -> numbers``."""

    @abstractmethod
    def __call__(self, shape: Shape, like: Tensor, generator: torch.Generator | None) -> Float[Tensor, "batch n dim"]:
        """Standard normal numbers of a shape (B, N, D), of the type and on the device of a tensor."""

    def with_horizon(self, horizon: int) -> Noise:
        """The same noise for points of another number of time steps; by default noise does not know of time."""
        return self


AnyNoise = Noise | Callable[[Shape, Tensor, "torch.Generator | None"], Tensor]
"""an object, or a function"""


@dataclass(frozen=True)
class White(Noise):
    """Independent numbers."""

    def __call__(self, shape: Shape, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class Coloured(Noise):
    """Noise whose power falls with the frequency along time.

    A point is then ``horizon`` steps of actions, time first.

    Args:
        exponent: the power is ``1 / frequency ** exponent`` (0 white, 1 pink, 2 red).
        horizon: number of time steps in D.

    Raises:
        ValueError: an option out of range.
    """

    exponent: float
    horizon: int

    def __post_init__(self) -> None:
        check_colour(self.exponent, self.horizon)

    def __call__(self, shape: Shape, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return coloured_noise(shape, self.exponent, self.horizon, like, generator)

    def with_horizon(self, horizon: int) -> Noise:
        return replace(self, horizon=horizon)

    def check_dim(self, dim: int) -> None:
        """Raise a ValueError unless ``horizon`` divides the size of a point."""
        check_horizon(self.horizon, dim)


Order = Literal["constant", "linear", "cubic"]


@dataclass(frozen=True)
class Spline(Noise):
    """Noise interpolated between few random knots along time, with unit variance at each step.

    A point is ``horizon`` steps of actions, time first. Constant splines are action blocks: each action is repeated.

    Args:
        num_knots: from 1 to ``horizon``; with ``horizon`` knots the noise is white.
        horizon: number of time steps in D.
        order: "constant", "linear" or "cubic" (Catmull-Rom) between the knots.

    Raises:
        ValueError: an option out of range.
    """

    num_knots: int
    horizon: int
    order: Order = "cubic"

    def __post_init__(self) -> None:
        for name in ("num_knots", "horizon"):
            require(whole_number(name, getattr(self, name)) >= 1, f"{name} must be at least 1", getattr(self, name))
        rule = "num_knots must be at most horizon"
        require(self.num_knots <= self.horizon, rule, self.num_knots, self.horizon)
        require(self.order in get_args(Order), f"order must be one of {', '.join(get_args(Order))}", self.order)

    def __call__(self, shape: Shape, like: Tensor, generator: torch.Generator | None) -> Tensor:
        size = shape[2] // self.horizon
        knots = White()((*shape[:2], self.num_knots * size), like, generator).unflatten(-1, (self.num_knots, size))
        weights = knot_weights(self.num_knots, self.horizon, self.order, like)
        return (weights / weights.norm(dim=1, keepdim=True) @ knots).flatten(-2)

    def with_horizon(self, horizon: int) -> Noise:
        return replace(self, horizon=horizon)

    def check_dim(self, dim: int) -> None:
        """Raise a ValueError unless ``horizon`` divides the size of a point."""
        check_horizon(self.horizon, dim)


def knot_weights(num_knots: int, horizon: int, order: Order, like: Tensor) -> Float[Tensor, "horizon knots"]:
    """Weights of the knots, spread evenly from the first to the last step, at each of the steps; rows sum to 1.

    Of the type and on the device of a tensor: a copy from the host would wait for an accelerator.
    """
    options: Any = {"dtype": like.dtype, "device": like.device}
    if order == "constant":
        index = torch.arange(horizon, device=like.device) * num_knots // horizon
        return torch.eye(num_knots, **options)[index]
    if num_knots == 1:
        return torch.ones(horizon, 1, **options)
    place = torch.linspace(0, num_knots - 1, horizon, **options)
    left = place.floor().clamp_max(num_knots - 2)
    t = place - left
    if order == "linear":
        terms = {0: 1 - t, 1: t}
    else:
        terms = {
            -1: 0.5 * (-t + 2 * t**2 - t**3),
            0: 0.5 * (2 - 5 * t**2 + 3 * t**3),
            1: 0.5 * (t + 4 * t**2 - 3 * t**3),
            2: 0.5 * (-(t**2) + t**3),
        }
    weights = torch.zeros(horizon, num_knots, **options)
    for offset, weight in terms.items():  # before the first knot and after the last, the nearest one counts again
        knot = (left.long() + offset).clamp(0, num_knots - 1).unsqueeze(1)
        weights.scatter_add_(1, knot, weight.unsqueeze(1))
    return weights


def noise_of(exponent: float, horizon: int) -> Noise:
    """White noise for exponent 0, else coloured noise."""
    return White() if exponent == 0 else Coloured(exponent, horizon)


def check_colour(exponent: float, horizon: int) -> None:
    """Raise a ValueError for options of coloured noise that are out of range."""
    require(horizon >= 1, "horizon must be at least 1", horizon)
    require(exponent >= 0, "noise_exponent must be at least 0", exponent)
    require(exponent < math.inf, "noise_exponent must be finite", exponent)
    rule = "noise_exponent needs a horizon above 1"
    require(exponent == 0 or horizon > 1, rule, f"noise_exponent {exponent}", f"horizon {horizon}")


def check_horizon(horizon: int, dim: int) -> None:
    """Raise a ValueError unless ``horizon`` divides the size of a point."""
    require(dim % horizon == 0, "horizon must divide the dimension of the problem", horizon, dim)


def coloured_noise(
    shape: Shape, exponent: float, horizon: int, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Noise ``[B, N, D]`` of unit variance with power spectrum ``1 / frequency ** exponent`` along time.

    D is ``horizon`` steps times the action size, time first. White for ``exponent=0``. Source: Timmer and Koenig 1995,
    as used in iCEM (Pinneri et al. 2020, section 3.1). The mean over the horizon is also random: frequency 0 has the
    power of the lowest frequency above it.
    """
    numbers = White()(shape, like, generator)
    if exponent == 0:
        return numbers
    spectrum = torch.fft.rfft(numbers.unflatten(-1, (horizon, -1)), dim=-2)
    frequency = torch.arange(spectrum.shape[-2], dtype=like.dtype, device=like.device).clamp_min(1)
    scale = frequency.pow(-exponent / 2)
    # Each frequency but 0 (and the last, for an even horizon) stands for two terms of the full spectrum.
    count = torch.full_like(scale, 2)
    count[0] = 1
    if horizon % 2 == 0:
        count[-1] = 1
    scale = scale / ((count * scale.square()).sum() / horizon).sqrt()
    return torch.fft.irfft(spectrum * scale.unsqueeze(-1), n=horizon, dim=-2).flatten(-2)
