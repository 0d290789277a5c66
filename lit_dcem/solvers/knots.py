"""Action sequences from few numbers: knots along time, held or joined by straight lines."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.solvers.noise import knot_weights
from lit_dcem.solvers.options import require, whole_number
from lit_dcem.solvers.precision import full_precision

Interpolation = Literal["linear", "constant"]
"""straight lines between knots that are evenly spaced from the first action to the last, or blocks of equal actions"""


class Knots(nn.Module):
    """Points of a search ``[..., K * A]`` (K knots, time first) and the H actions ``[..., H, A]`` that they stand for.

    Actions are a linear function of the knots, ``actions = M knots``, so that they keep to the bounds of the knots.
    Given actions become the knots whose actions are closest to them in the sum of squares.

    Args:
        horizon: H, the number of actions.
        num_knots: K, from 1 to H. With K = H a point is the actions themselves.
        interpolation: how knots become actions. "constant" makes K blocks of equal actions, of the same length where K
            divides H.

    Raises:
        ValueError: a number out of range, or another interpolation.
    """

    matrix: Tensor
    inverse: Tensor

    def __init__(self, horizon: int, num_knots: int, interpolation: Interpolation = "linear") -> None:
        super().__init__()
        self.horizon, self.num_knots = whole_number("horizon", horizon), whole_number("knots", num_knots)
        require(self.horizon >= 1, "horizon must be at least 1", horizon)
        require(1 <= self.num_knots <= self.horizon, "knots must be between 1 and horizon", num_knots, horizon)
        choices = get_args(Interpolation)
        require(interpolation in choices, f"interpolation must be {' or '.join(choices)}", interpolation)
        matrix = knot_weights(self.num_knots, self.horizon, interpolation, torch.empty(0, dtype=torch.float64))
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("inverse", torch.linalg.pinv(matrix), persistent=False)

    def actions(self, points: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch horizon action"]:
        """The actions that points stand for."""
        knots = points.unflatten(-1, (self.num_knots, -1))
        return knots if self._are_actions else _product(self.matrix, knots)

    def points(self, actions: Float[Tensor, "*batch horizon action"]) -> Float[Tensor, "*batch dim"]:
        """The points whose actions are closest to those given."""
        return (actions if self._are_actions else _product(self.inverse, actions)).flatten(-2)

    def advance(self, points: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The points one time step later."""
        return self.points(later(self.actions(points)))

    @property
    def _are_actions(self) -> bool:
        return self.num_knots == self.horizon


def later(actions: Float[Tensor, "*batch horizon action"]) -> Float[Tensor, "*batch horizon action"]:
    """Action sequences without their first action; the last action is repeated."""
    return torch.cat([actions[..., 1:, :], actions[..., -1:, :]], -2)


def _product(matrix: Tensor, steps: Float[Tensor, "*batch some_steps action"]) -> Float[Tensor, "*batch steps action"]:
    """A matrix times numbers along time, in their precision."""
    with full_precision(steps):
        return matrix.to(steps) @ steps
