"""CEM over the actions themselves (section 5.3 of the paper; PlaNet, algorithm 2)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.planning.planner import ModelPlanner, Rest
from lit_dcem.planet.planning.precision import Precision
from lit_dcem.solvers.cem import DCEM

BOUNDS = {"lower": -1.0, "upper": 1.0}
"""of actions"""


class CEMPlanner(ModelPlanner):
    """Searches the actions of the next H steps for the greatest sum of predicted rewards, for E environments at once.

    With ``warm_start`` a search begins where the last one ended, one step later (iCEM, arXiv 2008.06389, section 3.3):
    its first mean is the last one shifted, and the best actions found last time take part as a candidate. The action
    after the last one is zero then.

    Args:
        solver: searches, at ``temperature: 0`` by CEM (paper: 1,000 candidates, 100 elites, 10 iterations). The planner
            sets its bounds, -1 and 1, and the ``horizon`` of its coloured noise.
        horizon: H, actions of a plan (paper: 12).
        initial_std: standard deviation of the first candidates (PlaNet's code: 1).
        answer: act by the "mean" of the last distribution (paper), or by the "best" candidate met.
        warm_start: begin with the last plan, shifted; else from zero every time (paper).
        keep_plans: go on with the rest of the last plan while no new one promises more; else every plan stands for one
            step (paper). It costs a few trajectories, and keeps a loop from putting off what pays later.
        sample: imagine with samples of the model's priors (PlaNet's code); else with their means, a little faster.
        precision: of imagination: "float32" (or what the model has); "bfloat16", about twice as fast on processors
            that multiply it, and 9 times as slow on others; or "auto", the faster one of these where the model is, but
            float32 where the model takes gradients. The beliefs before it and the search around it are in float32.
        compile: compile imagination with `torch.compile`; on a GPU with CUDA graphs. Takes half a minute at first.
        value: what follows the horizon, as far as its weight says; else nothing counts that does (paper). A phase with
            ``value_learning`` trains it.

    Raises:
        ValueError: an option out of range, or a solver with other bounds.
    """

    def __init__(
        self,
        solver: DCEM,
        horizon: int = 12,
        initial_std: float = 1.0,
        answer: Literal["mean", "best"] = "mean",
        warm_start: bool = False,
        keep_plans: bool = False,
        sample: bool = True,
        precision: Precision = "auto",
        compile: bool = False,
        value: ValueEnsemble | None = None,
    ) -> None:
        _check_bounds(solver)
        solver = solver.replace(horizon=horizon, **BOUNDS)
        super().__init__(
            solver, horizon, initial_std, answer, warm_start, keep_plans, sample, precision, compile, value
        )

    def size(self, action_dim: int) -> int:
        return self.horizon * action_dim

    def decode(
        self, points: Float[Tensor, "envs *candidates dim"], belief: Belief, rest: Rest | None = None
    ) -> Float[Tensor, "envs *candidates horizon action"]:
        return points.unflatten(-1, (self.horizon, -1))

    def advance(self, points: Float[Tensor, "envs dim"], action_dim: int) -> Float[Tensor, "envs dim"]:
        return torch.cat([points[:, action_dim:], torch.zeros_like(points[:, :action_dim])], 1)


def _check_bounds(solver: DCEM) -> None:
    given = {name: solver.options.get(name) for name in BOUNDS}
    for name, bound in given.items():
        if bound is not None and not (torch.as_tensor(bound) == BOUNDS[name]).all():
            got = f"{given['lower']} and {given['upper']}"
            raise ValueError(f"The solver of a CEMPlanner must have the bounds of actions, -1 and 1, got {got}.")
