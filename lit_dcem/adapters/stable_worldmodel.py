"""Planning for stable-worldmodel's world models, with any solver.

Give it to a policy of stable-worldmodel::

    solver = WorldModelSolver(world_model, DCEM(temperature=0.0))
    policy = WorldModelPolicy(solver=solver, config=PlanConfig(horizon=5, receding_horizon=5))

It has the methods of stable-worldmodel's protocol ``Solver`` and asks a model for ``get_cost`` alone, so that neither
this module nor planning itself imports the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.options import require, whole_number
from lit_dcem.solvers.search import Answer
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.start import Start, bounded, solve
from lit_dcem.solvers.types import Bound, Objective, Solution

Info = Mapping[str, Any]
"""what is known of B environments: tensors and NumPy arrays ``[B, ...]``, and anything else"""


class Costable(Protocol):
    """A model with the cost of action sequences, as stable-worldmodel calls it."""

    def get_cost(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """The costs ``[B, N]`` of actions ``[B, N, H, A]``, given tensors and arrays ``[B, N, ...]``."""
        ...


class CostedPlan(NamedTuple):
    """Actions for each of B environments, and what the model says they cost."""

    actions: Float[Tensor, "batch horizon action"]
    cost: Float[Tensor, " batch"]


class WorldModelSolver:
    """A solver of stable-worldmodel that searches with a `Solver`.

    `solve` answers a policy, without gradients; `plan` lets them through to the parameters of the model.

    Args:
        cost: a world model with ``get_cost``, or a ``ShootingCostEvaluator``. If it also has ``get_action``, that fills
            the end of a plan to begin from, as in their solvers.
        solver: searches. `DCEM(temperature=0.0)` is their ``CEMSolver``.
        std: standard deviation of the first candidates, a number or numbers that broadcast against ``[H, A]``.
        lower: bound of actions in the units of the model, which a policy with a scaler changes: a number, or one for
            each dimension of the environment's action. By default that of the solver.
        upper: as ``lower``, and above it.
        answer: plan the "mean" of the last distribution, or the "best" point evaluated.
        batch_size: environments to plan for at once, which bounds the memory; all of them if None.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        cost: Costable,
        solver: Solver,
        *,
        std: Bound = 1.0,
        lower: Bound = None,
        upper: Bound = None,
        answer: Answer = "mean",
        batch_size: int | None = None,
    ) -> None:
        require(answer in get_args(Answer), f"answer must be {' or '.join(get_args(Answer))}", answer)
        if batch_size is not None:
            require(whole_number("batch_size", batch_size) >= 1, "batch_size must be at least 1", batch_size)
        self.cost, self.answer, self.batch_size = cost, answer, batch_size
        self._solver, self._std, self._bounds = solver, std, (lower, upper)

    def configure(self, *, action_space: Any, n_envs: int, config: Any) -> None:
        """Learn the sizes of a plan; `WorldModelPolicy` calls this.

        Args:
            action_space: of the vectorised environment, a Box ``[n_envs, ...]``.
            n_envs: number of environments.
            config: a ``PlanConfig``, with ``horizon`` (H) and ``action_block``, the environment steps of one action.

        Raises:
            ValueError: another space than a Box, or options that do not fit the actions.
        """
        require(hasattr(action_space, "low"), "action_space must be a Box", action_space)
        self.n_envs, self.horizon = n_envs, config.horizon
        self.action_dim = int(torch.Size(action_space.shape[1:]).numel()) * config.action_block
        lower, upper = (_repeated(bound, config.action_block) for bound in self._bounds)
        solver = bounded(self._solver, self.horizon, self.action_dim, lower, upper)
        self.solver = solver.with_horizon(self.horizon)
        self.start = Start(self.solver, self.horizon, self.action_dim, self._std)

    def __call__(self, info_dict: Info, init_action: Tensor | None = None) -> dict[str, Any]:
        return self.solve(info_dict, init_action)

    @torch.no_grad()
    def solve(self, info_dict: Info, init_action: Tensor | None = None) -> dict[str, Any]:
        """Plan as their solvers do: ``"actions"`` on the CPU, and ``"costs"``, a float for each environment."""
        plan = self.plan(info_dict, init_action)
        return {"actions": plan.actions.cpu(), "costs": plan.cost.tolist()}

    def plan(self, info_dict: Info, init_action: Float[Tensor, "batch steps action"] | None = None) -> CostedPlan:
        """Plan for the environments in ``info_dict``, with gradients if grad is enabled and the solver lets them.

        Args:
            info_dict: what the model needs to know of B environments.
            init_action: the first actions of a plan to begin from. With ``answer="best"``, plans do no worse.

        Raises:
            ValueError: a solver that is not configured, or actions of another shape.
        """
        require(hasattr(self, "solver"), "A solver must be configured before it plans", "no configuration")
        rows = [len(value) for value in info_dict.values() if _has_rows(value)]
        require(bool(rows), "info_dict must have a tensor or array with a row for each environment", list(info_dict))
        count = rows[0]
        first = self._first(info_dict, init_action, count)
        size = self.batch_size or count
        plans = [self._planned(info_dict, first, slice(i, i + size)) for i in range(0, count, size)]
        return CostedPlan(*(torch.cat(parts) for parts in zip(*plans, strict=True)))

    def _planned(self, info: Info, first: Tensor, rows: slice) -> CostedPlan:
        """The plans of some of the environments."""
        mean = first[rows].flatten(1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.solver.is_differentiable):
            objective = self._objective({name: _rows(value, rows) for name, value in info.items()}, mean)
            std = self.start.std.to(mean).expand_as(mean)
            solution = solve(self.solver, objective, mean, std, self.solver.clamp(mean).unsqueeze(1))
        return self._answer(solution)

    def _answer(self, solution: Solution) -> CostedPlan:
        is_best = self.answer == "best"
        points, cost = (solution.best, solution.best_value) if is_best else (solution.mean, solution.value)
        return CostedPlan(points.unflatten(-1, (self.horizon, self.action_dim)), cost)

    def _objective(self, info: Info, like: Tensor) -> Objective:
        """Costs ``[B, N]`` of points ``[B, N, H * A]``."""
        # Kept from call to call, as models store embeddings in it: with a gradient, or without.
        repeated: dict[tuple[int, bool], dict[str, Any]] = {}

        def cost(points: Tensor) -> Tensor:
            count = points.shape[1]
            kind = count, torch.is_grad_enabled()
            if kind not in repeated:
                repeated[kind] = {name: _for_candidates(value, count, like) for name, value in info.items()}
            actions = points.unflatten(-1, (self.horizon, self.action_dim)).contiguous().to(like)
            return self.cost.get_cost(repeated[kind], actions)

        return cost

    def _first(self, info: Info, given: Tensor | None, count: int) -> Float[Tensor, "batch horizon action"]:
        """The actions to begin from: those given, then the model's own, or zeros."""
        like = next(iter(getattr(self.cost, "parameters", tuple)()), torch.zeros(()))
        given = like.new_zeros(count, 0, self.action_dim) if given is None else given.detach().to(like)
        fits = given.dim() == 3 and given.shape[::2] == (count, self.action_dim) and given.shape[1] <= self.horizon
        rule = f"init_action must be [B, t, A] with B = {count}, t at most {self.horizon} and A = {self.action_dim}"
        require(fits, rule, list(given.shape))
        rest = self.horizon - given.shape[1]
        if rest == 0:
            return given
        if not hasattr(self.cost, "get_action"):
            return torch.cat([given, given.new_zeros(count, rest, self.action_dim)], 1)
        with torch.no_grad():
            prefix = given if given.shape[1] else None
            more = self.cost.get_action(dict(info), horizon=rest, prefix_actions=prefix)  # pyright: ignore
        return torch.cat([given, more.to(given).reshape(count, rest, self.action_dim)], 1)


def _repeated(bound: Bound, times: int) -> Any:
    """A bound of one action as one of a block of actions."""
    numbers = None if bound is None else torch.as_tensor(bound)
    return bound if numbers is None or numbers.dim() == 0 else numbers.repeat(times)


def _has_rows(value: Any) -> bool:
    """Whether a value is a tensor or array with a row for each environment, not a single number."""
    return (isinstance(value, Tensor) or hasattr(value, "__array__")) and len(value.shape) > 0


def _rows(value: Any, rows: slice) -> Any:
    return value[rows] if isinstance(value, list) or _has_rows(value) else value


def _for_candidates(value: Any, count: int, like: Tensor) -> Any:
    """What is known of environments ``[B, ...]`` for candidates ``[B, N, ...]``, on the device of the model."""
    if isinstance(value, Tensor):
        value = value.to(like) if value.is_floating_point() else value.to(like.device)
        return value.unsqueeze(1).expand(-1, count, *value.shape[1:]) if _has_rows(value) else value
    return value[:, None].repeat(count, 1) if _has_rows(value) else value
