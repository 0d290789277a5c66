"""Planning with a world model: a search for the actions that it predicts the most reward for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from lit_dcem.envs.policy import PolicyState
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.imagination import Imagination, Imagine
from lit_dcem.planet.planning.precision import PRECISIONS, Precision
from lit_dcem.solvers.cem import DCEM
from lit_dcem.solvers.types import Objective, Solution

COMPARISONS = 4
"""samples of what a plan leads to, to compare it with another one"""


class Rest(NamedTuple):
    """What is left of the plans before."""

    plan: Float[Tensor, "envs horizon action"]
    """one step later; the last action is there twice"""
    counts: Bool[Tensor, " envs"]
    """false where there was no plan"""


class ModelPlanner(nn.Module, ABC):
    """Searches for points that stand for the actions of the next H steps, for E environments at once.

    With ``warm_start`` a search begins where the last one ended, one step later (iCEM, arXiv 2008.06389, section 3.3):
    its first mean follows from the last one, and the best point found last time takes part as a candidate.

    Args:
        solver: searches.
        horizon: H, actions of a plan (paper: 12).
        initial_std: standard deviation of the first candidates.
        answer: act by the "mean" of the last distribution (paper), or by the "best" candidate met.
        warm_start: begin with the last plan; else from zero every time (paper).
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
        ValueError: an option out of range.
    """

    def __init__(
        self,
        solver: DCEM,
        horizon: int,
        initial_std: float,
        answer: Literal["mean", "best"] = "mean",
        warm_start: bool = False,
        keep_plans: bool = False,
        sample: bool = True,
        precision: Precision = "auto",
        compile: bool = False,
        value: ValueEnsemble | None = None,
    ) -> None:
        super().__init__()
        if horizon < 1 or not 0 < initial_std < math.inf:
            rule = "horizon must be at least 1 and initial_std positive and finite"
            raise ValueError(f"{rule}, got {horizon} and {initial_std}.")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}.")
        self.solver = solver
        self.horizon = horizon
        self.initial_std = initial_std
        self.answer = answer
        self.warm_start = warm_start
        self.keep_plans = keep_plans
        self.sample = sample
        self.precision: Precision = precision
        self._imagine = Imagination(compile)
        self.value = value

    @abstractmethod
    def size(self, action_dim: int) -> int:
        """D, numbers in a point of the search."""

    @abstractmethod
    def decode(
        self, points: Float[Tensor, "envs *candidates dim"], belief: Belief, rest: Rest | None = None
    ) -> Float[Tensor, "envs *candidates horizon action"]:
        """The actions in [-1, 1] that points stand for, at beliefs ``[E, size]``, given the rest of the last plans."""

    @abstractmethod
    def advance(self, points: Float[Tensor, "envs dim"], action_dim: int) -> Float[Tensor, "envs dim"]:
        """Where to begin one step after a search that ended there."""

    def check_sizes(self, model: WorldModel) -> None:
        """Raise a ValueError if the planner is not made for a model of these sizes; one without networks fits all."""
        if self.value is None:
            return
        theirs, ours = ((each.deter_dim, each.stoch_dim) for each in (model.rssm, self.value))
        if theirs != ours:
            rule = "The value of a planner must have the deter_dim and stoch_dim of its world model"
            raise ValueError(f"{rule}, {theirs[0]} and {theirs[1]}, got {ours[0]} and {ours[1]}.")

    @property
    def remembers(self) -> bool:
        """Whether a plan depends on the one before."""
        return self.keep_plans

    def candidates(self, belief: Belief, rest: Rest | None) -> Float[Tensor, "envs some dim"] | None:
        """Points that each search tries first, beside those that it draws; none unless a planner knows some."""
        return None

    def forward(
        self, model: WorldModel, belief: Belief, first: Bool[Tensor, " envs"], plans: PolicyState | None
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        """The first action of a plan for each environment; the ``plan``, and what the next search may begin with.

        Args:
            model: predicts.
            belief: where the plans start, ``[E, size]``.
            first: where an episode begins, and the last plan does not count.
            plans: what the last call returned; None if there was none.
        """
        plans = {name: plan.to(belief.deter.device) for name, plan in (plans or {}).items()}
        first = first.to(belief.deter.device)
        rest = self.rest_of(plans, first)
        solution = self.solve(model, belief, self._begin(model.rssm.action_dim, first, plans), rest=rest)
        chosen = self._choose(model, belief, self._plan(solution, belief, rest), rest)
        after = {"mean": solution.mean, "best": solution.best} if self.warm_start else {}
        return chosen[:, 0], {**after, "plan": chosen}

    def solve(
        self,
        model: WorldModel,
        belief: Belief,
        begin: PolicyState | None = None,
        common_noise: bool = False,
        frozen: bool = False,
        rest: Rest | None = None,
    ) -> Solution:
        """Search for each belief ``[E, size]``; from zero unless ``begin`` has the first mean, and a candidate."""
        solver = self.solver.replace(common_noise=True) if common_noise else self.solver
        mean = belief.deter.new_zeros(len(belief.deter), self.size(model.rssm.action_dim))
        known = [self.candidates(belief, rest)]
        if begin:
            mean, known = begin["mean"], [begin["best"].unsqueeze(1), *known]
        known = [points for points in known if points is not None]
        if known:
            solver = solver.replace(warm_start=torch.cat(known, 1))
        objective = self.objective(model, belief, frozen, common_noise, rest)
        return solver(objective, mean, torch.full_like(mean, self.initial_std))

    def act(
        self, model: WorldModel, belief: Belief, seed: int, rest: Rest | None = None, frozen: bool = False
    ) -> Float[Tensor, "envs horizon action"]:
        """A plan from zero, which depends on the belief, the rest of the last plan, the model and a seed alone.

        Also under autocast: what acts outside of it and an update inside of it plan the same.
        All environments see the same noise, so that the answer for one does not depend on the others. If grad is
        enabled, gradients go through the search as far as it is differentiable, and to what decodes its answer; unless
        it is ``frozen``, also to the model.
        """
        differentiable = torch.is_grad_enabled() and self.solver.is_differentiable
        with isolate_rng(), torch.autocast(belief.deter.device.type, enabled=False):
            torch.manual_seed(seed)
            with torch.set_grad_enabled(differentiable):
                solution = self.solve(model, belief, common_noise=True, frozen=frozen, rest=rest)
            return self._choose(model, belief, self._plan(solution, belief, rest), rest, common_noise=True)

    def rest_of(self, plans: PolicyState, first: Bool[Tensor, " envs"]) -> Rest | None:
        """What is left of the last plans, if they matter; none where an episode begins."""
        if not self.remembers or "plan" not in plans:
            return None
        plan = plans["plan"].to(first.device)
        return Rest(torch.cat([plan[:, 1:], plan[:, -1:]], 1), ~first)

    def objective(
        self,
        model: WorldModel,
        belief: Belief,
        frozen: bool = False,
        common_noise: bool = False,
        rest: Rest | None = None,
    ) -> Objective:
        """Minus the imagined returns of points ``[E, N, D]``.

        Args:
            model: predicts.
            belief: where it starts, ``[E, size]``.
            frozen: let no gradient reach the model.
            common_noise: imagine all environments with the same noise.
            rest: of the last plans, for planners that it matters to.
        """
        imagine = self._imagination(model, belief, frozen)
        rows = slice(1) if common_noise else slice(None)

        def objective(points: Tensor) -> Tensor:
            actions = self.decode(points, belief, rest).permute(2, 0, 1, 3)
            noise = model.rssm.draw_noise(actions[:, rows]) if self.sample else None
            return -imagine(actions, noise).to(points.dtype)

        return objective

    def _plan(self, solution: Solution, belief: Belief, rest: Rest | None) -> Float[Tensor, "envs horizon action"]:
        return self.decode(solution.best if self.answer == "best" else solution.mean, belief, rest)

    @torch.no_grad()
    def _keeps(self, model: WorldModel, belief: Belief, plan: Tensor, rest: Rest, common_noise: bool) -> Tensor:
        """Where the rest of the last plan promises more than the new one, in the mean of the same few samples."""
        actions = torch.stack([plan, rest.plan], 1).permute(2, 0, 1, 3).repeat_interleave(self._comparisons, 2)
        rows, half = slice(1) if common_noise else slice(None), slice(self._comparisons)
        noise = model.rssm.draw_noise(actions[:, rows, half]).repeat(1, 1, 2, 1) if self.sample else None
        returns = self._imagination(model, belief)(actions, noise).unflatten(1, (2, -1)).mean(2)
        return (returns[:, 1] > returns[:, 0]) & rest.counts

    @property
    def _comparisons(self) -> int:
        return COMPARISONS if self.sample else 1

    def _choose(
        self, model: WorldModel, belief: Belief, plan: Tensor, rest: Rest | None, common_noise: bool = False
    ) -> Float[Tensor, "envs horizon action"]:
        """The new plan, or where plans are kept and it promises more, the rest of the last one."""
        if rest is None or not self.keep_plans:
            return plan
        return torch.where(self._keeps(model, belief, plan, rest, common_noise)[:, None, None], rest.plan, plan)

    def _imagination(self, model: WorldModel, belief: Belief, frozen: bool = False) -> Imagine:
        return self._imagine.at(belief, model, self.value, self.precision, frozen)

    def _begin(self, action_dim: int, first: Tensor, plans: PolicyState) -> PolicyState | None:
        """First mean and a candidate ``[E, D]``, if there was a plan; zero where an episode begins."""
        if not self.warm_start or not plans:
            return None
        advanced = {name: self.advance(plans[name], action_dim) for name in ("mean", "best")}
        return {name: plan.masked_fill(first.unsqueeze(-1), 0) for name, plan in advanced.items()}
