"""CEM over the actions themselves (section 5.3 of the paper; PlaNet, algorithm 2)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.problem import Rest
from lit_dcem.solvers.sampling_solver import SamplingSolver

BOUNDS = {"lower": -1.0, "upper": 1.0}
"""of actions"""


class CEMPlanner(ModelPlanner):
    r"""Searches for the actions of the next H steps with the highest predicted return, for E environments at once.

    .. math:: \hat u = \arg\max_{-1 \le u \le 1} \sum_{t=1}^H \hat r(h_t, x_t), \qquad
        h_t = \mathrm{GRU}(h_{t-1}, x_{t-1}, u_t), \qquad x_t \sim \mathrm{prior}(h_t)

    A point of the search is the actions themselves. With ``warm_start`` the next search begins with these actions
    shifted by one step, and with zero as the last action.

    Args:
        solver: searches. ``temperature: 0`` makes it CEM (paper: 1,000 candidates, 100 elites, 10 iterations). The
            planner sets its bounds, -1 and 1, and the ``horizon`` of its noise.
        horizon: H, actions in a plan (paper: 12).
        initial_std: standard deviation of the first candidates (PlaNet's code: 1).
        options: those of `ModelPlanner` and `PlannerOptions`, by name.

    Raises:
        ValueError: an option out of range, or a solver with other bounds.
    """

    def __init__(self, solver: SamplingSolver, horizon: int = 12, initial_std: float = 1.0, **options: Any) -> None:
        _check_bounds(solver)
        super().__init__(solver.with_horizon(horizon).replace(**BOUNDS), horizon, initial_std, **options)

    def size(self, action_dim: int) -> int:
        return self.horizon * action_dim

    def decode(
        self, points: Float[Tensor, "envs *candidates dim"], belief: Belief, rest: Rest | None = None
    ) -> Float[Tensor, "envs *candidates horizon action"]:
        return points.unflatten(-1, (self.horizon, -1))

    def advance(self, points: Float[Tensor, "envs dim"], action_dim: int) -> Float[Tensor, "envs dim"]:
        return torch.cat([points[:, action_dim:], torch.zeros_like(points[:, :action_dim])], 1)


def _check_bounds(solver: SamplingSolver) -> None:
    given = {name: solver.options.get(name) for name in BOUNDS}
    for name, bound in given.items():
        if bound is not None and not (torch.as_tensor(bound) == BOUNDS[name]).all():
            got = f"{given['lower']} and {given['upper']}"
            raise ValueError(f"The solver of a CEMPlanner must have the bounds of actions, -1 and 1, got {got}.")
