"""PlaNet's three phases in one run, which the paper leaves open: likelihood, decoder and policy learn at once."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lit_dcem.planet.data.joint import JointRollouts
from lit_dcem.planet.data.on_policy import OnPolicyBatch
from lit_dcem.planet.phases.phase2 import PlanetPhase2
from lit_dcem.planet.phases.planet import data_of
from lit_dcem.planet.phases.policy_gradient import PolicyGradient
from lit_dcem.planet.phases.policy_learning import LearnsPolicy, check_policy_planner
from lit_dcem.training.optimizing import optimize


class PlanetJoint(LearnsPolicy, PlanetPhase2):
    """Phase 2 on the episodes of phase 3's policy, with the policy's loss added: one sum for one optimizer.

    `JointRollouts` collects episodes, of which the policy learns while they are fresh, and the world model from then
    on. The policy's loss reaches the decoder alone: what the world model predicts stays what it was trained to.

    Args:
        policy_gradient: value network and losses.
        policy_weight: of the policy's loss in the sum.
        value_options: of the optimizer for the value network and the standard deviation.
        phase2: all that `PlanetPhase2` takes; ``beliefs`` must be "replay".

    Raises:
        ValueError: an option out of range.
    """

    metrics = tuple(dict.fromkeys((*PlanetPhase2.metrics, *LearnsPolicy.metrics)))
    policy_reaches_model = False

    def __init__(
        self,
        policy_gradient: PolicyGradient,
        policy_weight: float = 1.0,
        value_options: dict[str, Any] | None = None,
        **phase2: Any,
    ) -> None:
        super().__init__(**phase2)
        check_policy_planner(self.planner)
        if not 0 <= policy_weight < float("inf"):
            raise ValueError(f"policy_weight must be at least 0 and finite, got {policy_weight}.")
        if self.beliefs != "replay" or self.seed_planner is not None:
            got = f"{self.beliefs} and a seed_planner" if self.seed_planner is not None else self.beliefs
            raise ValueError(f"PlanetJoint takes beliefs of the replay and no seed_planner, got {got}.")
        self.policy_gradient = policy_gradient
        self.policy_weight = policy_weight
        self.value_options = value_options or {}

    def training_step(self, batch: OnPolicyBatch, batch_idx: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        model_and_decoder = PlanetPhase2.training_step(self, batch, batch_idx)  # pyright: ignore[reportArgumentType]
        return model_and_decoder + self.value_loss(batch) + self.policy_weight * self.policy_loss(batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        learner = [parameter for parameter in self.policy_gradient.parameters() if parameter.requires_grad]
        groups = [*self.groups(), {"params": learner, **self.value_options}]
        return optimize(groups, self.optimizer, self.lr_scheduler, "val/return")

    def policy_parameters(self) -> list[nn.Parameter]:
        std = [self.policy_gradient.log_std] if self.policy_gradient.log_std.requires_grad else []
        return [*self.planner.decoder.parameters(), *std]

    def _rollouts(self) -> JointRollouts:  # pyright: ignore[reportIncompatibleMethodOverride]
        return data_of(self, JointRollouts)
