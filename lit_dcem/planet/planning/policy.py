"""A policy that plans: it infers a belief with the world model's posterior, and searches from there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.envs.policy import PolicyState
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.planner import ModelPlanner


@dataclass(frozen=True)
class ModelPolicy:
    """A `Policy` that infers its belief from each observation with the world model's posterior, and plans from there.

    Its state holds the belief, and what the planner needs to know of its last plan.
    """

    model: WorldModel
    planner: ModelPlanner
    generator: torch.Generator | None = None
    """the source of all noise, on the model's device; torch's global generator if none is given"""

    def __call__(
        self,
        observations: Float[Tensor, "envs observation"],
        actions: Float[Tensor, "envs action"],
        first: Bool[Tensor, " envs"],
        state: PolicyState | None,
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        plans = {name: plan for name, plan in (state or {}).items() if name not in Belief._fields}
        with torch.inference_mode():
            belief = self.follow(observations, actions, first, state)
            chosen, plans = self.planner(self.model, belief, first, plans, self.generator)
            state = {**belief._asdict(), **plans}
        # Tensors made in inference mode cannot be used in training, nor be changed in place.
        return chosen.clone(), {name: tensor.clone() for name, tensor in state.items()}

    def with_seed(self, seed: int) -> ModelPolicy:
        """The same policy with a new generator of this seed."""
        generator = torch.Generator(self.model.rssm.recurrent.weight.device)
        return replace(self, generator=generator.manual_seed(seed))

    def follow(
        self,
        observations: Float[Tensor, "envs observation"],
        actions: Float[Tensor, "envs action"],
        first: Bool[Tensor, " envs"],
        state: PolicyState | None,
    ) -> Belief:
        """The belief about each environment after its latest observation, ``[E, size]``."""
        weight = self.model.rssm.recurrent.weight
        belief = self.model.rssm.initial(len(first))
        if state is not None:
            belief = Belief(*(state[name].to(weight.device) for name in Belief._fields))
        seen = actions.to(weight), observations.to(weight)
        return self.model.observe(belief, *seen, first=first.to(weight.device), generator=self.generator)
