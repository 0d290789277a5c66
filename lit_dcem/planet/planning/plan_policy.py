"""A stochastic policy around a planner, for policy gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.envs.policy import PolicyState
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueHead
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.planet.planning.problem import Rest


@dataclass(frozen=True)
class PlanPolicy:
    """A `Policy` that draws from a Gaussian around the first action of a plan (section 5.3 of the paper, phase 3).

    Its state holds the belief, the ``mean`` of the Gaussian and the ``sample`` drawn from it, both ``[E, A]``, and the
    ``value`` of the belief ``[E]``. If the planner remembers plans, it also holds the ``plan`` and the ``rest`` of the
    last one. With the same search seed, the mean is a function of the belief and this rest.
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
        rest = self.planned.planner.rest_of(state or {}, first.to(belief.deter.device))
        plan = self.plan(belief, rest)
        mean = plan[:, 0]
        options = {"dtype": mean.dtype, "device": mean.device, "generator": self.planned.generator}
        sample = mean + self.std() * torch.randn(mean.shape, **options)
        kept = {} if not self.planned.planner.remembers else {"plan": plan, **self._remembered(rest, plan)}
        return sample, {**belief._asdict(), "mean": mean, "sample": sample, "value": self.value(belief), **kept}

    def with_seed(self, seed: int) -> PlanPolicy:
        """The same policy with a new generator of this seed; the noise of the search keeps the seed of the search."""
        return replace(self, planned=self.planned.with_seed(seed))

    def plan(self, belief: Belief, rest: Rest | None) -> Float[Tensor, "envs horizon action"]:
        """The plan at each belief ``[E, size]``; differentiable, if grad is enabled."""
        return self.planned.planner.act(self.planned.model, belief, self.seed(), rest, self.frozen)

    @staticmethod
    def _remembered(rest: Rest | None, plan: Tensor) -> PolicyState:
        """The rest of the last plan, from which an update computes the same plan again."""
        rest = rest or Rest(torch.zeros_like(plan), torch.zeros(len(plan), dtype=torch.bool, device=plan.device))
        return {"rest": rest.plan, "rest_counts": rest.counts}
