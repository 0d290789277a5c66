"""PlaNet, phase 1: learn a world model while planning in it with CEM (section 5.3 of the paper, figures 3 and 11)."""

from __future__ import annotations

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lit_dcem.data.rollouts import RolloutBatch, Rollouts
from lit_dcem.experiments.planet import Planet, data_of
from lit_dcem.experiments.training import optimize
from lit_dcem.models.world_model import WorldModel, WorldModelLoss
from lit_dcem.planning.model_planner import ModelPlanner


class PlanetPhase1(Planet):
    """Learns a world model from rollouts, in which it plans every action itself: model-based RL without a policy.

    `Rollouts` steps the environment with `policy` between updates. One optimizer step is one update of the world model
    on sequences of the replay. Logs, beside what `Planet` logs, ``train/loss`` and its parts ``train/observation``,
    ``train/reward``, ``train/kl`` (`WorldModelLoss`), and ``train/termination`` if the world model predicts it.

    Args:
        world_model: to learn; its sizes must be those of the environment.
        planner: chooses actions.
        optimizer: made from the world model's parameters (paper: Adam, 1e-3, eps 1e-4).
        lr_scheduler: steps once an epoch; one that waits for a plateau watches ``val/return``.
        normalize: give observations to the model in units of their spread in the first batch, of seed episodes; the
            observation loss is then in these units. Else as they are (paper).
    """

    def __init__(
        self,
        world_model: WorldModel,
        planner: ModelPlanner,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__(world_model, planner)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.normalize = normalize

    def on_train_batch_start(self, batch: RolloutBatch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.normalize and self.global_step == 0:
            self.scale.fit(self.trainer.strategy.broadcast(batch.sequences.observations))

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        return self._likelihood(batch).total

    def _likelihood(self, batch: RolloutBatch) -> WorldModelLoss:
        """The world model's loss; logs it, and how far the rollouts are."""
        sequences = batch.sequences
        seen = self.scale(sequences.observations), sequences.actions, sequences.rewards
        loss = self.world_model.loss(*seen, first=sequences.first, terminated=sequences.terminated)
        parts = {"loss": loss.total, "observation": loss.observation, "reward": loss.reward, "kl": loss.kl}
        if self.world_model.termination_head is not None:
            parts["termination"] = loss.termination
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, batch_size=1)
        self._log_progress(batch)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimize(self.world_model.parameters(), self.optimizer, self.lr_scheduler, "val/return")

    def _rollouts(self) -> Rollouts:
        return data_of(self, Rollouts)
