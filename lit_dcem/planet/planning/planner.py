"""Planning with a world model: a search for the actions with the highest predicted return."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_dcem.envs.policy import PolicyState
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.imagination import Imagination, Imagine
from lit_dcem.planet.planning.options import PlannerOptions
from lit_dcem.planet.planning.problem import Noise, Problem, Rest
from lit_dcem.solvers.ranking import finite_rows
from lit_dcem.solvers.sampling_solver import SamplingSolver
from lit_dcem.solvers.search import Search
from lit_dcem.solvers.types import Objective, Solution

COMPARISONS = 4
"""samples of what a plan leads to, to compare it with another one"""


class ModelPlanner(nn.Module, ABC):
    """Plans for E environments at once by searching for points that stand for the actions of the next H steps.

    This class runs the search, imagines what actions lead to, keeps plans and starts warm. To write your own planner,
    subclass it and say what a point is, in three methods:

    - ``size(action_dim)``: D, the numbers in a point;
    - ``decode(points, belief, rest)``: the actions ``[E, N, H, A]`` that points ``[E, N, D]`` stand for, and
      ``[E, H, A]`` for ``[E, D]``;
    - ``advance(points, action_dim)``: where the next search begins, with ``warm_start``.

    Random shooting with uniform actions, ready for any phase's ``planner``::

        class RandomShooting(ModelPlanner):
            def __init__(self, horizon: int = 12, num_candidates: int = 1000) -> None:
                solver = DCEM(num_candidates=num_candidates, num_elites=1, num_iterations=1, temperature=0.0)
                super().__init__(solver, horizon, initial_std=1.0, answer="best")

            def size(self, action_dim):
                return self.horizon * action_dim

            def decode(self, points, belief, rest=None):
                return torch.erf(points / 2**0.5).unflatten(-1, (self.horizon, -1))  # a normal number made uniform

            def advance(self, points, action_dim):
                return points.roll(-action_dim, -1)

    Args:
        solver: searches.
        horizon: H, actions in a plan (paper: 12).
        initial_std: standard deviation of the first candidates.
        value: estimates the return after the horizon, and counts as much as its ``weight`` says; by default nothing
            after the horizon counts (paper). A phase with ``value_learning`` trains it.
        options: those of `PlannerOptions`, by name.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        solver: SamplingSolver,
        horizon: int,
        initial_std: float,
        value: ValueEnsemble | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if horizon < 1 or not 0 < initial_std < math.inf:
            rule = "horizon must be at least 1 and initial_std positive and finite"
            raise ValueError(f"{rule}, got {horizon} and {initial_std}.")
        self.solver = solver
        self.horizon = horizon
        self.initial_std = initial_std
        self.value = value
        self.options = PlannerOptions(**options)
        self._imagination = Imagination(self.options.compile)

    @abstractmethod
    def size(self, action_dim: int) -> int:
        """D, numbers in a point of the search."""

    @abstractmethod
    def decode(
        self, points: Float[Tensor, "envs *candidates dim"], belief: Belief, rest: Rest | None = None
    ) -> Float[Tensor, "envs *candidates horizon action"]:
        """The actions in [-1, 1] that points stand for; draws no random numbers.

        Args:
            points: one for each environment, or N candidates for each.
            belief: where the plans start, ``[E, size]``.
            rest: of the last plans; None if the planner does not remember them, or there were none.
        """

    @abstractmethod
    def advance(self, points: Float[Tensor, "envs dim"], action_dim: int) -> Float[Tensor, "envs dim"]:
        """Where to begin a search, one step after the search that found these points."""

    def candidates(self, belief: Belief, rest: Rest | None) -> Float[Tensor, "envs some dim"] | None:
        """Points that each search evaluates in its first iteration, in place of drawn ones; none by default."""
        return None

    @property
    def remembers(self) -> bool:
        """Whether a plan depends on the one before."""
        return self.options.keep_plans

    @property
    def search(self) -> Search:
        """Where searches begin, and which point of them is the plan."""
        return Search(self.solver, self.initial_std, self.options.answer)

    def set_options(self, **changes: Any) -> None:
        """Change some of the `PlannerOptions`.

        Raises:
            ValueError: an option out of range.
        """
        before, self.options = self.options, replace(self.options, **changes)
        if self.options.compile != before.compile:
            self._imagination = Imagination(self.options.compile)

    def check_sizes(self, model: WorldModel) -> None:
        """Raise a ValueError if the planner does not fit the sizes of a model; one without networks fits all."""
        if self.value is None:
            return
        theirs, ours = ((each.deter_dim, each.stoch_dim) for each in (model.rssm, self.value))
        if theirs != ours:
            rule = "The value of a planner must have the deter_dim and stoch_dim of its world model"
            raise ValueError(f"{rule}, {theirs[0]} and {theirs[1]}, got {ours[0]} and {ours[1]}.")

    def forward(
        self,
        model: WorldModel,
        belief: Belief,
        first: Bool[Tensor, " envs"],
        plans: PolicyState | None,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        """The first action of a plan for each environment, and what the next call needs to know, the ``plan`` included.

        Args:
            model: predicts.
            belief: where the plans start, ``[E, size]``.
            first: where an episode begins, so that the last plan does not count.
            plans: what the last call returned; None if there was none.
            generator: the source of all noise, on the device of the belief; by default the solver's, or torch's global
                one.
        """
        plans = {name: plan.to(belief.deter.device) for name, plan in (plans or {}).items()}
        first = first.to(belief.deter.device)
        noise = Noise(generator or self.solver.options.get("generator"))
        problem = Problem(model, belief, self.rest_of(plans, first), noise)
        solution = self.solve(problem, self._begin(model.rssm.action_dim, first, plans))
        chosen = self._choose(problem, self._plan(problem, solution))
        after = {"mean": solution.mean, "best": solution.best} if self.options.warm_start else {}
        return chosen[:, 0], {**after, "plan": chosen}

    def act(
        self,
        model: WorldModel,
        belief: Belief,
        seed: int,
        rest: Rest | None = None,
        frozen: bool = False,
        new: bool = False,
    ) -> Float[Tensor, "envs horizon action"]:
        """A plan that depends on the belief, the rest of the last plan, the model and the seed alone.

        The search begins from zero, all environments see the same noise, and autocast is off. So the plan for one
        environment does not depend on the others, and an update plans what was planned when acting. With ``new`` no
        plan is kept. If grad is enabled, gradients flow through the search where it is differentiable, to what decodes
        its answer, and to the model unless it is ``frozen``.
        """
        device = belief.deter.device
        problem = Problem(model, belief, rest, Noise(torch.Generator(device).manual_seed(seed), common=True), frozen)
        with torch.autocast(device.type, enabled=False):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.solver.is_differentiable):
                solution = self.solve(problem)
            plan = self._plan(problem, solution)
            return plan if new else self._choose(problem, plan)

    def rest_of(self, plans: PolicyState, first: Bool[Tensor, " envs"]) -> Rest | None:
        """The rest of the last plans, if remembered; it does not count where an episode begins or the plan is NaN."""
        if not self.remembers or "plan" not in plans:
            return None
        plan = plans["plan"].to(first.device)
        return Rest(torch.cat([plan[:, 1:], plan[:, -1:]], 1), ~first & finite_rows(plan.flatten(1)))

    def solve(self, problem: Problem, begin: PolicyState | None = None) -> Solution:
        """Search for each environment; from zero, unless ``begin`` holds a first ``mean`` and a ``best`` candidate."""
        known = [begin["best"].unsqueeze(1)] if begin else []
        candidates = self.candidates(problem.belief, problem.rest)
        known += [] if candidates is None else [candidates]
        changes = {"warm_start": torch.cat(known, 1)} if known else {}
        search = self.search.with_solver(problem.noise.solver(self.solver))
        mean, size = begin["mean"] if begin else None, self.size(problem.model.rssm.action_dim)
        return search.solve(self.objective(problem), problem.belief.deter, size, mean, **changes)

    def objective(self, problem: Problem) -> Objective:
        """Minus the imagined returns of points ``[E, N, D]``."""
        imagine = self._imagine(problem)

        def objective(points: Tensor) -> Tensor:
            actions = self.decode(points, problem.belief, problem.rest).permute(2, 0, 1, 3)
            noise = problem.noise.states(problem.model, actions) if self.options.sample else None
            return -imagine(actions, noise).to(points.dtype)

        return objective

    def _imagine(self, problem: Problem) -> Imagine:
        return self._imagination.of(problem, self.value, self.options)

    def _plan(self, problem: Problem, solution: Solution) -> Float[Tensor, "envs horizon action"]:
        return self.decode(self.search.answer_of(solution), problem.belief, problem.rest)

    def _choose(
        self, problem: Problem, plan: Float[Tensor, "envs horizon action"]
    ) -> Float[Tensor, "envs horizon action"]:
        """The new plan; where plans are kept, the rest of the last one if it has a higher predicted return."""
        if problem.rest is None or not self.options.keep_plans:
            return plan
        keeps = self._keeps(problem, problem.rest, plan)
        return torch.where(keeps[:, None, None], problem.rest.plan, plan)

    @torch.no_grad()
    def _keeps(self, problem: Problem, rest: Rest, plan: Tensor) -> Bool[Tensor, " envs"]:
        """Where the rest has a higher return than the new plan, both averaged over the same few samples."""
        samples = self.options.sample
        count = COMPARISONS if samples else 1
        actions = torch.stack([plan, rest.plan], 1).permute(2, 0, 1, 3).repeat_interleave(count, 2)
        noise = problem.noise.states(problem.model, actions[:, :, :count]).repeat(1, 1, 2, 1) if samples else None
        new, old = self._imagine(problem)(actions, noise).unflatten(1, (2, -1)).mean(2).unbind(1)
        return rest.counts & old.isfinite() & ~(new >= old)  # also where the new one is NaN

    def _begin(self, action_dim: int, first: Tensor, plans: PolicyState) -> PolicyState | None:
        """First mean and a candidate ``[E, D]``, if there was a plan; zero where an episode begins or it is NaN."""
        if not self.options.warm_start or not plans:
            return None
        advanced = {name: self.advance(plans[name], action_dim) for name in ("mean", "best")}
        return {name: torch.where((~first & finite_rows(plan))[:, None], plan, 0) for name, plan in advanced.items()}
