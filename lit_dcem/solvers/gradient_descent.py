"""Unrolled gradient descent: the baseline of section 2, as a solver that can replace `dcem`."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.iteration import Bounds, as_bounds, best_of, clamped, evaluate
from lit_dcem.solvers.options import check_bounds, plain, require, whole_number
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Bound, Iteration, Objective, Solution


def unrolled_gd(
    objective: Objective,
    initial: Float[Tensor, "batch dim"],
    *,
    num_steps: int = 10,
    lr: float = 0.1,
    lower: Bound = None,
    upper: Bound = None,
    trace: bool = False,
) -> Solution:
    r"""Take ``num_steps`` steps of gradient descent on ``objective``, and let gradients through all of them.

    .. math:: x_{t+1} = \mathrm{clamp}\left(x_t - \eta \nabla f(x_t),\ l,\ u\right), \qquad t = 0, \ldots, T - 1

    The outer derivative uses second derivatives of the objective, by torch's double backward. With gradients disabled,
    the same steps are taken without a graph. Problems are independent of each other: a problem without a
    finite value is NaN, and so is every iterate after a NaN gradient.

    Args:
        objective: maps candidates ``[B, N, D]`` to values ``[B, N]``; N is 1.
        initial: first iterate, ``[B, D]``.
        num_steps: number of steps, at least 0.
        lr: step size.
        lower: bound, a number or numbers that broadcast against ``[B, D]``; every iterate is clamped to it (projected
            gradient descent).
        upper: as ``lower``, and above it.
        trace: also return every iterate, as an iteration with a single candidate.

    Returns:
        a `Solution`: ``mean`` is the last iterate, ``std`` is zero.

    Raises:
        ValueError: an option is out of range, or a shape does not fit.
        RuntimeError: under ``torch.inference_mode()``, which forbids the inner gradients.
    """
    _check(num_steps, lr, lower, upper)
    require(initial.dim() == 2, "initial must be [B, D]", list(initial.shape))
    require(initial.is_floating_point(), "initial must be floating point", initial.dtype)
    if torch.is_inference_mode_enabled():
        raise RuntimeError("unrolled_gd needs gradients, got torch.inference_mode(): use torch.no_grad() instead.")
    differentiable = torch.is_grad_enabled()
    bounds = as_bounds(lower, upper, initial)
    point, points, values = clamped(initial, bounds), [], []
    for _ in range(int(num_steps)):
        value, step = _gradient(objective, point, differentiable)
        points.append(point)
        values.append(value)
        point = clamped(point - lr * step, bounds)
    values.append(evaluate(objective, point.unsqueeze(1)).squeeze(1))
    points.append(point)
    return _solution(points, values, bounds, trace)


class UnrolledGD(Solver):
    r"""`unrolled_gd` as a module that stores its options. NumPy values are stored as Python ones.

    .. math:: x_{t+1} = \mathrm{clamp}\left(x_t - \eta \nabla f(x_t),\ l,\ u\right)

    Args:
        num_steps: number of steps, at least 0.
        lr: step size.
        lower: bound of every iterate, a number or numbers that broadcast against ``[B, D]``.
        upper: as ``lower``, and above it.
        trace: also return every iterate.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        num_steps: int = 10,
        lr: float = 0.1,
        lower: Bound = None,
        upper: Bound = None,
        trace: bool = False,
    ) -> None:
        super().__init__()
        _check(num_steps, lr, lower, upper)
        self.num_steps = plain(num_steps)
        self.lr = plain(lr)
        self.lower = plain(lower)
        self.upper = plain(upper)
        self.trace = trace

    def forward(self, objective: Objective, mean: Tensor, std: float | Tensor | None = None) -> Solution:
        """Solve from ``mean``. ``std`` is ignored; it makes the solvers interchangeable."""
        return unrolled_gd(objective, mean, **self._options())

    def replace(self, **changes: Any) -> UnrolledGD:
        """A solver with some options changed."""
        return type(self)(**{**self._options(), **changes})

    def traced(self, num_iterations: int | None = None) -> UnrolledGD:
        """A copy that returns a trace, with another number of steps if one is given."""
        return self.replace(trace=True, **({} if num_iterations is None else {"num_steps": num_iterations}))

    @property
    def is_differentiable(self) -> bool:
        """Always: gradients pass through every step."""
        return True

    @property
    def num_evaluations(self) -> int:
        """One for each step."""
        return self.num_steps

    def clamp(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Points clamped to the bounds of the iterates."""
        return clamped(points, as_bounds(self.lower, self.upper, points))

    def extra_repr(self) -> str:
        return f"num_steps={self.num_steps}, lr={self.lr}"

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("num_steps", "lr", "lower", "upper", "trace")}


def _check(num_steps: int, lr: float, lower: Bound, upper: Bound) -> None:
    whole_number("num_steps", num_steps)
    require(num_steps >= 0, "num_steps must be at least 0", num_steps)
    require(0 < lr < math.inf, "lr must be positive and finite", lr)
    check_bounds(lower, upper)


def _gradient(objective: Objective, point: Tensor, differentiable: bool) -> tuple[Tensor, Tensor]:
    """Value ``[B]`` and gradient ``[B, D]`` of the objective at ``point``, with a graph if asked for."""
    with torch.enable_grad():
        at = point if differentiable and point.requires_grad else point.detach().requires_grad_()
        value = evaluate(objective, at.unsqueeze(1)).squeeze(1)
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=differentiable)
    return (value if differentiable else value.detach()), gradient


def _solution(points: list[Tensor], values: list[Tensor], bounds: Bounds, trace: bool) -> Solution:
    best, best_value = best_of(torch.stack(points, 1), torch.stack(values, 1))
    is_finite = best_value.isfinite()
    zero = torch.zeros_like(points[-1])
    iterations = tuple(
        Iteration(point, zero, point.unsqueeze(1), value.unsqueeze(1), torch.ones_like(value).unsqueeze(1))
        for point, value in zip(points[:-1], values[:-1], strict=True)
    )
    mean, std, best = (each.where(is_finite.unsqueeze(1), math.nan) for each in (points[-1], zero, best))
    value, best_value = (each.where(is_finite, math.nan) for each in (values[-1], best_value))
    kept = {"trace": iterations if trace else None, "num_iterations": len(points) - 1, "bounds": bounds}
    return Solution(mean, std, value, best, best_value, **kept)
