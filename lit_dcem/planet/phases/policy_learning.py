"""The part of an update that learns a policy by PPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor, nn

from lit_dcem.planet.data.transitions import Transitions
from lit_dcem.planet.phases.policy_gradient import PolicyGradient
from lit_dcem.planet.planning.plan_policy import PlanPolicy
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.policy import ModelPolicy


@dataclass(frozen=True)
class PolicyLearning:
    """Learns the planner of a phase as the policy of PPO.

    Raises:
        ValueError: a planner that PPO cannot learn.
    """

    policy: ModelPolicy
    """plans without exploration"""
    learner: PolicyGradient
    parameters: Sequence[nn.Parameter]
    """all that the policy's loss changes"""
    seed: Callable[[], int]
    """gives the seed of the search's noise in this step of PPO"""
    reaches_model: bool = True
    """whether gradients of the policy's loss reach the world model"""

    def __post_init__(self) -> None:
        check_policy_planner(self.policy.planner)

    @property
    def exploring(self) -> PlanPolicy:
        """The policy to learn: its actions are drawn."""
        learner = self.learner
        return PlanPolicy(self.policy, learner.value, lambda: learner.std, self.seed, frozen=not self.reaches_model)

    def value_loss(self, transitions: Transitions) -> tuple[Tensor, dict[str, Tensor]]:
        """The value network's loss with its weight, and what to log."""
        loss = self.learner.value_loss(transitions)
        return self.learner.value_coefficient * loss, {"train/value": loss}

    def policy_loss(self, transitions: Transitions, strategy: Strategy) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy's loss, which is 0 while only the value learns, and what to log.

        Args:
            transitions: some steps of time.
            strategy: averages the KL over the processes of the run, so that all of them stop at once.
        """
        learner = self.learner
        if learner.stopped:  # every parameter is in the graph all the same, which DDP wants
            return torch.stack([parameter.sum() for parameter in self.parameters]).sum() * 0.0, {}
        parts = learner.policy_loss(transitions, self.exploring.new_plan)
        logged = {"policy": parts.policy.loss, "clipped": parts.policy.clipped, "ratio": parts.policy.ratio}
        logged |= {"policy_kl": parts.kl}
        if learner.max_kl is not None:
            learner.stopped.fill_(strategy.reduce(parts.kl, reduce_op="mean") > learner.max_kl)
        return parts.policy.loss * ~learner.stopped, {f"train/{name}": value for name, value in logged.items()}


def check_policy_planner(planner: ModelPlanner) -> None:
    """Raise a ValueError for a planner that PPO cannot learn."""
    if planner.options.warm_start:
        raise ValueError("PPO needs a planner that begins from zero each time, got one with warm_start.")
