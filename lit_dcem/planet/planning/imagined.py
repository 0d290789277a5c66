"""A world model as a `PlanningModel`: what `Planner` needs to plan in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.imagination import Reward, predicted_reward, survival


@dataclass(frozen=True)
class ImaginedModel:
    """Plans from beliefs of a world model: ``Planner(ImaginedModel(world_model), solver, 12, action_dim)(belief)``.

    Without a value, the return of actions is that of `imagined_returns`: if the model predicts termination, each reward
    of a rollout is multiplied by the probability that the task is not over before it. A `Planner` counts its value in
    full, `imagined_returns` with the same probability.
    """

    model: WorldModel
    """predicts"""
    sample: bool = False
    """imagine with samples of the model's priors, from torch's global generator; by default with their means"""
    known_reward: Reward | None = None
    """``(observation [..., O], action [..., A]) -> reward [...]`` of the predicted observation after an action, in the
    environment's units, and the action; by default the model's learned reward"""

    def step(self, state: Belief, action: Float[Tensor, "*batch action"]) -> Belief:
        """The belief after an action."""
        deter, stoch = self.model.rssm.imagine(state, action.unsqueeze(0), sample=self.sample)
        return Belief(deter[0], stoch[0])

    def reward(self, state: Belief, action: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch"]:
        """The reward expected of an action."""
        return predicted_reward(self.model, self.step(state, action), action, self.known_reward)

    def rollout(
        self, state: Belief, actions: Float[Tensor, "batch candidates horizon action"]
    ) -> tuple[Float[Tensor, "batch candidates horizon"], Belief]:
        """The rewards of actions from beliefs ``[B, size]``, and the last beliefs ``[B, N, size]``."""
        begin, moves = Belief(*(part.unsqueeze(1) for part in state)), actions.permute(2, 0, 1, 3)
        noise = self.model.rssm.draw_noise(moves) if self.sample else None
        beliefs = list(self.model.rssm.imagine_steps(begin, moves, noise))
        predicted = [
            predicted_reward(self.model, belief, move, self.known_reward)
            for belief, move in zip(beliefs, moves, strict=True)
        ]
        rewards = torch.stack(predicted)
        if getattr(self.model, "termination_head", None) is not None:
            rewards = rewards * survival(torch.stack([self.model.termination(belief) for belief in beliefs]))
        return rewards.movedim(0, -1), beliefs[-1]
