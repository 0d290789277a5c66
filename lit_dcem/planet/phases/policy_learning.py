"""How a phase of PlaNet learns a policy by PPO: an epoch for each step of it, in which the search's noise is common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from lit_dcem.planet.data.evaluation_episodes import Evaluation
from lit_dcem.planet.data.on_policy import OnPolicyBatch, OnPolicyRollouts
from lit_dcem.planet.phases.planet import Planet
from lit_dcem.planet.phases.policy_gradient import PolicyGradient
from lit_dcem.planet.planning.plan_policy import PlanPolicy
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.training.optimizing import check_precision
from lit_dcem.training.seeds import seed_of


class LearnsPolicy(Planet):
    """A `Planet` whose planner is the policy of PPO; a subclass sets ``policy_gradient`` and says what learns.

    Logs, beside what `Planet` logs, ``train/policy``, ``train/value`` (losses), ``train/policy_kl``,
    ``train/clipped``, ``train/ratio`` (of the policy to the one that acted, see `ppo`), ``train/entropy``, and
    ``train/ppo_steps`` and ``val/ppo_steps``.
    """

    metrics = (
        *Planet.metrics, "val/ppo_steps", "train/policy", "train/value", "train/policy_kl", "train/clipped",
        "train/ratio", "train/entropy",
    )  # fmt: skip
    policy_gradient: PolicyGradient
    policy_reaches_model = True
    """whether gradients of the policy's loss reach the world model"""

    @property
    def exploring_policy(self) -> PlanPolicy:
        """The policy that PPO learns: actions are drawn."""
        learner = self.policy_gradient
        return PlanPolicy(
            self.policy, learner.value, lambda: learner.std, self.search_seed, frozen=not self.policy_reaches_model
        )

    def search_seed(self) -> int:
        """Of the search's noise in this step of PPO, the same on all processes."""
        return seed_of(self._rollouts().seed, self.current_epoch)

    def setup(self, stage: str) -> None:
        check_precision(self, "bf16-true")  # where a density of a few nats has steps of 3%: its ratios would be noise
        super().setup(stage)
        self._rollouts().connect(self.policy, self.exploring_policy, self.policy_gradient.prepare)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if batch_idx == 0:
            self.policy_gradient.begin(self.current_epoch)

    def value_loss(self, batch: OnPolicyBatch) -> Tensor:
        """Of the value network, weighted."""
        loss = self.policy_gradient.value_loss(batch.steps)
        self.log_dict({"train/value": loss, "train/ppo_steps": float(batch.ppo_steps)}, batch_size=1)
        return self.policy_gradient.value_coefficient * loss

    def policy_loss(self, batch: OnPolicyBatch) -> Tensor:
        """Of what the policy reaches; 0 while only the value learns."""
        learner = self.policy_gradient
        if learner.stopped:  # every parameter is in the graph all the same, which DDP wants
            return torch.stack([parameter.sum() for parameter in self.policy_parameters()]).sum() * 0.0
        parts = learner.policy_loss(batch.steps, self.exploring_policy.plan)
        logged = {"policy": parts.policy.loss, "clipped": parts.policy.clipped, "ratio": parts.policy.ratio}
        logged |= {"policy_kl": parts.kl, "entropy": parts.entropy}
        self.log_dict({f"train/{name}": value for name, value in logged.items()}, batch_size=1)
        if learner.max_kl is not None:
            kl = self.trainer.strategy.reduce(parts.kl, reduce_op="mean")
            learner.stopped.fill_(kl > learner.max_kl)
        return learner.weighted(parts) * ~learner.stopped

    @abstractmethod
    def policy_parameters(self) -> list[nn.Parameter]:
        """All that the policy's loss reaches."""

    def validation_step(self, batch: Evaluation, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if self.trainer.state.fn == "fit":
            self.log("val/ppo_steps", float(self._rollouts().ppo_steps), batch_size=1)

    @abstractmethod
    def _rollouts(self) -> OnPolicyRollouts: ...


def check_policy_planner(planner: ModelPlanner) -> None:
    """Raise a ValueError for a planner that PPO cannot learn."""
    if planner.options.warm_start:
        raise ValueError("PPO needs a planner that begins from zero each time, got one with warm_start.")
