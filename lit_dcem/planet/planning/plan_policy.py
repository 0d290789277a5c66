"""A stochastic policy around a planner, for policy gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.envs.policy import PolicyState, replaced
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueHead
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.planet.planning.problem import Rest


@dataclass(frozen=True)
class PlanPolicy:
    """A `Policy` that draws from a Gaussian around the first action of a plan (section 5.3 of the paper, phase 3).

    Its state holds the belief, the ``mean`` of the Gaussian and the ``sample`` drawn from it, both ``[E, A]``, and the
    ``value`` of the belief ``[E]``. If the planner remembers plans, it also holds the ``plan`` and what that came from:
    the ``rest`` of the one before and, if plans are kept, the belief where the plan began and its ``age`` in decisions.
    With the same search seed, the mean is a function of these.
    """

    planned: ModelPolicy
    value: ValueHead
    std: Callable[[], Float[Tensor, " action"]]
    """returns the standard deviation"""
    seed: Callable[[], int]
    """returns the seed of the search's noise, which all environments share (common random numbers)"""
    frozen: bool = False
    """let no gradient reach the world model"""

    @torch.no_grad()
    def __call__(
        self,
        observations: Float[Tensor, "envs observation"],
        actions: Float[Tensor, "envs action"],
        first: Bool[Tensor, " envs"],
        state: PolicyState | None,
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        belief = self.planned.follow(observations, actions, first, state)
        planner, model = self.planned.planner, self.planned.model
        rest = planner.rest_of(state or {}, first.to(belief.deter.device))
        plan = planner.act(model, belief, self.seed(), rest)
        mean = plan[:, 0]
        options = {"dtype": mean.dtype, "device": mean.device, "generator": self.planned.generator}
        sample = mean + self.std() * torch.randn(mean.shape, **options)
        remembered = {"plan": plan, **self._origin(state, belief, rest, plan)} if planner.remembers else {}
        return sample, {**belief._asdict(), "mean": mean, "sample": sample, "value": self.value(belief), **remembered}

    def with_seed(self, seed: int) -> PlanPolicy:
        """The same policy with a new generator of this seed; the noise of the search keeps the seed of the search."""
        return replace(self, planned=self.planned.with_seed(seed))

    def new_plan(self, belief: Belief, rest: Rest | None) -> Float[Tensor, "envs horizon action"]:
        """What a search finds from each belief ``[E, size]``; differentiable, if grad is enabled."""
        return self.planned.planner.act(self.planned.model, belief, self.seed(), rest, self.frozen, new=True)

    def _origin(self, state: PolicyState | None, belief: Belief, rest: Rest | None, plan: Tensor) -> PolicyState:
        """What an update needs to compute the same plan again: where it began, which is here unless it was kept."""
        left = rest or Rest(torch.zeros_like(plan), torch.zeros(len(plan), dtype=torch.bool, device=plan.device))
        here = {"rest": left.plan, "rest_counts": left.counts}
        if not self.planned.planner.options.keep_plans:
            return here
        age = torch.zeros(len(plan), dtype=torch.long, device=plan.device)
        here |= {"origin_deter": belief.deter, "origin_stoch": belief.stoch, "age": age}
        if rest is None or state is None:
            return here
        kept = rest.counts & (plan == rest.plan).flatten(1).all(1)
        before = {name: state[name].to(plan.device) for name in here}
        return replaced(here, kept, {**before, "age": before["age"] + 1})
