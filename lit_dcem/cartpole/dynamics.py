"""The cartpole of section 5.2 of the paper: differentiable dynamics and cost, for any batch of states.

A state is (x, dx, cos th, sin th, w): cart position [m] and velocity [m/s], pole angle th with 0 upright, and angular
velocity w [rad/s]. An action is one force on the cart [N], which the dynamics clamp. `step` has the equations, with M
the mass of cart and pole, in explicit Euler. The reward of a step is taken at the state before the action, with the
action as given, not as clamped.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.cartpole.adjoint import Motion, path_cost
from lit_dcem.solvers.arrays import suits_arrays

GRAVITY = 9.8
"""m/s^2"""
POLE_MASS = 0.1
"""m, in kg"""
TOTAL_MASS = 1.0 + POLE_MASS
"""M, in kg: the cart's and the pole's"""
HALF_LENGTH = 0.5
"""l, in m: half of the pole"""
TIME_STEP = 0.05
"""dt, in s"""
MAX_FORCE = 100.0
"""bound of the force either way, in N"""
POSITION_COST = 0.1
"""of a step, per m^2"""
FORCE_COST = 1e-5
"""of a step, per N^2"""

_MOTION = Motion(
    time_step=TIME_STEP,
    lever=POLE_MASS * HALF_LENGTH / TOTAL_MASS,
    gravity=GRAVITY * TIME_STEP**2,
    full=HALF_LENGTH * 4 / 3,
    position_cost=POSITION_COST,
)


def step(state: Float[Tensor, "*batch 5"], force: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 5"]:
    r"""The state one time step later, with the force clamped to 100 N either way.

    .. math:: a = \frac{\mathrm{force} + m l w^2 \sin \theta}{M}, \qquad
        \alpha = \frac{g \sin \theta - a \cos \theta}{l \left(\frac43 - \frac{m \cos^2 \theta}{M}\right)}

    .. math:: x \gets x + \Delta t\, \dot x, \qquad
        \dot x \gets \dot x + \Delta t \left(a - \frac{m l \alpha \cos \theta}{M}\right), \qquad
        \theta \gets \theta + \Delta t\, w, \qquad w \gets w + \Delta t\, \alpha
    """
    x, dx, cos, sin, w = state.unbind(-1)
    acc, alpha = _accelerations(cos, sin, TIME_STEP * w, _push(force))
    angle = torch.atan2(sin, cos) + TIME_STEP * w
    moved = x + TIME_STEP * dx, dx + acc / TIME_STEP, angle.cos(), angle.sin(), w + alpha / TIME_STEP
    return torch.stack(moved, -1)


def reward(state: Float[Tensor, "*batch 5"], force: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    r"""The reward of a step, at the state before it, with the force as given.

    .. math:: \cos \theta - 0.1\, x^2 - 10^{-5}\, \mathrm{force}^2
    """
    x, _, cos, _, _ = state.unbind(-1)
    return cos - POSITION_COST * x.square() - FORCE_COST * force.square()


def rollout_cost(
    state: Float[Tensor, "*batch 5"], actions: Float[Tensor, "*batch candidates horizon"]
) -> Float[Tensor, "*batch candidates"]:
    r"""Minus the summed rewards of N candidate sequences of H forces for each state, in the state's precision.

    .. math:: C(u) = \sum_{t=0}^{H-1} \left(0.1\, x_t^2 - \cos \theta_t + 10^{-5} u_t^2\right)

    What `step` and `reward` give in a loop, several times faster: time counts in steps, so that Euler needs no factors,
    the coordinates stay apart, and the last force costs but moves nothing that is rewarded.
    """
    actions = actions.to(state.dtype)
    pushes = _push(actions).movedim(-1, 0).contiguous()[:-1]
    fits = (
        state.shape[:-1] == actions.shape[:-2] and len(pushes) > 1 and suits_arrays(pushes[0]) and suits_arrays(state)
    )
    path = path_cost(state, pushes, _MOTION, _path_cost) if fits else _path_cost(state, pushes)
    return path + FORCE_COST * actions.square().sum(-1)


def _path_cost(state: Tensor, pushes: Tensor) -> Tensor:
    x, dx, cos, sin, w = state.unsqueeze(-2).unbind(-1)
    dx, w, angle = TIME_STEP * dx, TIME_STEP * w, torch.atan2(sin, cos)
    squares, uprightness = x * x, cos
    for push in pushes:
        acc, alpha = _accelerations(cos, sin, w, push)
        x, dx, angle, w = x + dx, dx + acc, angle + w, w + alpha
        cos, sin = angle.cos(), angle.sin()
        squares, uprightness = squares + x * x, uprightness + cos
    return POSITION_COST * squares - uprightness


def _push(force: Tensor) -> Tensor:
    """The force within its bounds over the total mass, in m per step^2."""
    return force.clamp(-MAX_FORCE, MAX_FORCE) * (TIME_STEP**2 / TOTAL_MASS)


def _accelerations(cos: Tensor, sin: Tensor, w: Tensor, push: Tensor) -> tuple[Tensor, Tensor]:
    """``(acc, alpha)`` of the equations of `step` with the time in steps: w in rad per step, all else per step^2."""
    a = torch.addcmul(push, w * w, sin, value=_MOTION.lever)
    inertia = torch.rsub(cos * cos, _MOTION.full, alpha=_MOTION.lever)
    alpha = torch.addcmul(_MOTION.gravity * sin, a, cos, value=-1) / inertia
    return torch.addcmul(a, alpha, cos, value=-_MOTION.lever), alpha


class Cartpole:
    """The cartpole as a `PlanningModel`: forces are actions ``[..., 1]``, and a return is minus `rollout_cost`."""

    def step(self, state: Float[Tensor, "*batch 5"], action: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch 5"]:
        """As `step`."""
        return step(state, action.squeeze(-1))

    def reward(self, state: Float[Tensor, "*batch 5"], action: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch"]:
        """As `reward`."""
        return reward(state, action.squeeze(-1))
