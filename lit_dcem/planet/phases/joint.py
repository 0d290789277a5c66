"""PlaNet's three phases in one run, which the paper leaves open: likelihood, decoder and policy learn at once."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lit_dcem.embedding.loss import EmbeddingLoss
from lit_dcem.planet.data.episode import Sequences
from lit_dcem.planet.data.joint import JointRollouts
from lit_dcem.planet.data.on_policy import OnPolicyBatch
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.phases.decoder_learning import DECODER_METRICS, DecoderLearning
from lit_dcem.planet.phases.learned_policy import LearnedPolicy
from lit_dcem.planet.phases.model_learning import MODEL_METRICS, ModelLearning
from lit_dcem.planet.phases.planet import data_of
from lit_dcem.planet.phases.policy_gradient import PolicyGradient
from lit_dcem.planet.phases.policy_learning import PolicyLearning
from lit_dcem.planet.phases.value_learning import ValueLearning
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.solvers.sampling_solver import SamplingSolver
from lit_dcem.training.optimizing import optimize


class PlanetJoint(LearnedPolicy):
    """Phase 2 on the episodes of phase 3's policy, with the policy's loss added: one sum for one optimizer.

    `JointRollouts` collects episodes. The policy learns from them while they are fresh, and the world model from then
    on. The policy's loss reaches the decoder alone: what the world model predicts stays what it was trained to. Logs
    what `PlanetPhase2` and `PlanetPhase3` log.

    Args:
        world_model: to learn; its sizes must be those of the environment.
        planner: chooses actions; its decoder learns.
        policy_gradient: value network and losses of the policy.
        policy_weight: of the policy's loss in the sum.
        value_options: of the optimizer for the value network.
        training_solver: as in `PlanetPhase2`, like everything below; decoder steps start from the replay.
        loss: of the points that the search of a decoder step evaluated.
        num_beliefs: that a decoder step starts from.
        logit_cost: weight of the mean square of what the decoder squashes to actions.
        optimizer: made from the world model's parameters and, in groups of their own, the decoder's and the others.
        decoder_options: of the optimizer, for the decoder's group, by name.
        decoder_clip: the norm of the decoder's gradient is clipped at this.
        lr_scheduler: steps once an epoch; one that waits for a plateau watches ``val/return``, with the mode max.
        normalize: give observations to the model in units of their spread in the first batch.
        value_learning: how the value at the planner's horizon is learned; without it that value does not change.

    Raises:
        ValueError: an option out of range.
    """

    metrics = (*LearnedPolicy.metrics, *MODEL_METRICS, *DECODER_METRICS)
    planner: LatentPlanner

    def __init__(
        self,
        world_model: WorldModel,
        planner: LatentPlanner,
        policy_gradient: PolicyGradient,
        policy_weight: float = 1.0,
        value_options: dict[str, Any] | None = None,
        training_solver: SamplingSolver | None = None,
        loss: EmbeddingLoss | None = None,
        num_beliefs: int = 16,
        logit_cost: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        decoder_options: dict[str, Any] | None = None,
        decoder_clip: float = 1.0,
        lr_scheduler: LRSchedulerCallable | None = None,
        normalize: bool = False,
        value_learning: ValueLearning | None = None,
    ) -> None:
        super().__init__(world_model, planner)
        if not 0 <= policy_weight < float("inf"):
            raise ValueError(f"policy_weight must be at least 0 and finite, got {policy_weight}.")
        self.policy_gradient = policy_gradient
        self.policy_weight = policy_weight
        self.value_options = value_options or {}
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.value_learning = value_learning
        self.model_learning = ModelLearning(world_model, planner, normalize, value_learning)
        self.decoder_learning = DecoderLearning(
            world_model,
            planner,
            training_solver or planner.solver,
            loss or EmbeddingLoss(),
            num_beliefs,
            logit_cost,
            decoder_clip,
            decoder_options or {},
        )
        learned = list(planner.decoder.parameters())
        self.policy_learning = PolicyLearning(
            self.policy, policy_gradient, learned, self._search_seed, reaches_model=False
        )

    def on_train_batch_start(self, batch: OnPolicyBatch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self._begins_update(batch_idx):
            replay = self._rollouts().replay
            self.model_learning.before_update(self.global_step, _replayed(batch), replay, self.trainer.strategy)

    def training_step(self, batch: OnPolicyBatch, batch_idx: int) -> Tensor:
        sequences = _replayed(batch)
        likelihood, of_model = self.model_learning.likelihood(sequences)
        starts = self.decoder_learning.drawn(likelihood.posteriors.belief)
        loss, of_decoder = self.decoder_learning.added_to(likelihood.total, starts)
        horizon, of_horizon = self.model_learning.value_loss(sequences, likelihood)
        value, of_value = self.policy_learning.value_loss(batch.share)
        policy, of_policy = self.policy_learning.policy_loss(batch.steps, self.trainer.strategy)
        self.log_dict(of_model | of_decoder | of_horizon | of_value | of_policy, batch_size=1)
        self._log_progress(batch)
        return loss + horizon + value + self.policy_weight * policy

    def configure_optimizers(self) -> OptimizerLRScheduler:
        model, *horizon = self.model_learning.groups()
        value = {"params": self.policy_gradient.parameters(), **self.value_options}
        groups = [model, self.decoder_learning.group(), *horizon, value]
        return optimize(groups, self.optimizer, self.lr_scheduler, *self.monitor, module=self)

    def _rollouts(self) -> JointRollouts:
        return data_of(self, JointRollouts)


def _replayed(batch: OnPolicyBatch) -> Sequences:
    assert batch.sequences is not None  # JointRollouts always sample some
    return batch.sequences
