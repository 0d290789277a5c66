"""The cost of a path and its gradient in the pushes, on NumPy arrays: for few numbers, calls are most of the time.

Backward from the last state, with the adjoint of each quantity of `dynamics` (time in steps, i the inertia)::

    alpha* = w'* - lever cos dx'*                     a* = dx'* - cos alpha* / i
    cos*   = alpha* (2 lever cos alpha - a) / i - lever alpha dx'*
    sin*   = g alpha* / i + lever w^2 a*              th* = th'* + cos sin* - sin cos* + sin
    w*     = w'* + th'* + 2 lever w sin a*            dx* = dx'* + x'*            x* = x'* + 2 c x

where ' is the next step, lever is ``l m / M``, and c the cost of the position. The gradient of a push is a*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_dcem.solvers.arrays import gradients_by_torch, must_use_torch

Array = np.ndarray


@dataclass(frozen=True)
class Motion:
    """The numbers of the dynamics with the time in steps; the inertia is ``full - lever cos^2``."""

    time_step: float
    lever: float
    gravity: float
    full: float
    position_cost: float
    """of a step, per x^2"""

    def roll(self, state: Array, pushes: Array) -> tuple[Array, Array]:
        """Cost ``[*batch, N]`` without that of the forces, of pushes ``[H - 1, *batch, N]``, and all that was passed.

        Args:
            state: as in `dynamics`, ``[*batch, 5]``.
            pushes: forces within their bounds over the total mass.

        Returns:
            the cost, and x, cos, sin, w, a, alpha, 1 / i of each step ``[7, H, *batch, N]``.
        """
        path = np.empty((7, len(pushes) + 1, *pushes.shape[1:]), pushes.dtype)
        xs, coss, sins, ws, accs, alphas, inverses = path
        dx = np.empty_like(xs[0])
        xs[0], dx[:], coss[0], sins[0], ws[0] = (state[..., i, None] for i in range(5))
        dx *= self.time_step
        ws[0] *= self.time_step
        angle = np.arctan2(sins[0], coss[0])
        for t, push in enumerate(pushes):
            cos, sin, w, a, alpha, inverse = coss[t], sins[t], ws[t], accs[t], alphas[t], inverses[t]
            self._accelerate(cos, sin, w, push, a, alpha, inverse)
            np.add(xs[t], dx, out=xs[t + 1])
            dx += a
            dx -= self.lever * alpha * cos
            angle += w
            np.add(w, alpha, out=ws[t + 1])
            np.cos(angle, out=coss[t + 1])
            np.sin(angle, out=sins[t + 1])
        return self.position_cost * (xs * xs).sum(0) - coss.sum(0), path

    def _accelerate(
        self, cos: Array, sin: Array, w: Array, push: Array, a: Array, alpha: Array, inverse: Array
    ) -> None:
        np.multiply(w, w, out=a)
        a *= sin
        a *= self.lever
        a += push
        np.multiply(cos, cos, out=inverse)
        inverse *= -self.lever
        inverse += self.full
        np.reciprocal(inverse, out=inverse)
        np.multiply(sin, self.gravity, out=alpha)
        alpha -= a * cos
        alpha *= inverse

    def gradient(self, path: Array) -> Array:
        """Gradient of the cost in the pushes, ``[H - 1, *batch, N]``, from all that `roll` passed."""
        xs, coss, sins, ws, accs, alphas, inverses = path
        pulls = 2 * self.position_cost * xs[1:][::-1].cumsum(0)[::-1]  # x*
        gradient = np.empty_like(pulls)
        dx, w, angle = np.zeros_like(xs[0]), np.zeros_like(xs[0]), sins[-1].copy()
        for t in range(len(pulls) - 1, -1, -1):
            cos, sin = coss[t], sins[t]
            levered = self.lever * dx
            alpha = (w - levered * cos) * inverses[t]  # alpha* / i
            a = np.subtract(dx, cos * alpha, out=gradient[t])
            swing = self.lever * ws[t] * a
            of_cos = alpha * (2 * self.lever * cos * alphas[t] - accs[t]) - levered * alphas[t]
            of_sin = self.gravity * alpha + swing * ws[t]
            dx += pulls[t]
            w += angle
            w += 2 * swing * sin
            angle += cos * of_sin
            angle += sin * (1 - of_cos)
        return gradient


class _PathCost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, pushes: Tensor, motion: Motion, plain: Callable[..., Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        cost, path = motion.roll(state.numpy(), pushes.numpy())
        ctx.save_for_backward(state, pushes, torch.from_numpy(path))
        ctx.motion, ctx.plain = motion, plain
        return torch.from_numpy(cost)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        state, pushes, path = ctx.saved_tensors
        if must_use_torch([grad]) or ctx.needs_input_grad[0]:
            return (*gradients_by_torch(ctx.plain, (state, pushes), [grad]), None, None)
        return None, torch.from_numpy(ctx.motion.gradient(path.numpy()) * grad.numpy()), None, None


def path_cost(state: Tensor, pushes: Tensor, motion: Motion, plain: Callable[..., Tensor]) -> Tensor:
    """`Motion.roll` of tensors with a gradient; ``plain`` is the same in torch, for derivatives of a higher order."""
    return _PathCost.apply(state, pushes, motion, plain)
