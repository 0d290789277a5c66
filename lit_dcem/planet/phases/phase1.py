"""PlaNet, phase 1: learn a world model while planning in it with CEM (section 5.3 of the paper, figures 3 and 11)."""

from __future__ import annotations

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lit_dcem.planet.data.rollouts import RolloutBatch, Rollouts
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.phases.model_learning import MODEL_METRICS, ModelLearning
from lit_dcem.planet.phases.planet import Planet, data_of
from lit_dcem.planet.phases.value_learning import ValueLearning
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.training.optimizing import optimize


class PlanetPhase1(Planet):
    """Learns a world model from rollouts, and plans every action in it: model-based RL without a policy network.

    `Rollouts` steps the environment with `policy` between updates. One optimizer step is one update of the world model
    on sequences of the replay. In addition to `Planet`, logs ``train/loss`` and its parts ``train/observation``,
    ``train/reward``, ``train/kl`` (`WorldModelLoss`), and ``train/termination`` if the world model predicts it; and if
    the planner's value is learned, ``train/value_loss``, ``train/value_accuracy`` (explained variance) and
    ``train/value_weight``.

    Args:
        world_model: to learn; its sizes must be those of the environment.
        planner: chooses actions.
        optimizer: made from the world model's parameters (paper: Adam, 1e-3, eps 1e-4).
        lr_scheduler: steps once an epoch; one that waits for a plateau watches ``val/return``, with the mode max.
        normalize: give observations to the model in units of their spread in the first batch, of seed episodes; the
            observation loss is then in these units. Otherwise they are given as they are (paper).
        value_learning: how the planner's ``value`` is learned, in a parameter group of its own, whose gradients are
            clipped separately. Without it the value does not change.

    Raises:
        ValueError: ``value_learning`` for a planner without a value, or a value of other sizes than the world model's.
    """

    metrics = (*Planet.metrics, *MODEL_METRICS)

    def __init__(
        self,
        world_model: WorldModel,
        planner: ModelPlanner,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        normalize: bool = False,
        value_learning: ValueLearning | None = None,
    ) -> None:
        super().__init__(world_model, planner)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.value_learning = value_learning
        self.model_learning = ModelLearning(world_model, planner, normalize, value_learning)

    def on_train_batch_start(self, batch: RolloutBatch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self._begins_update(batch_idx):
            replay = self._rollouts().replay
            self.model_learning.before_update(self.global_step, batch.sequences, replay, self.trainer.strategy)

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        likelihood, logged = self.model_learning.likelihood(batch.sequences)
        value, of_value = self.model_learning.value_loss(batch.sequences, likelihood)
        self.log_dict(logged | of_value, batch_size=1)
        self._log_progress(batch)
        return likelihood.total + value

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups = self.model_learning.groups()
        return optimize(groups, self.optimizer, self.lr_scheduler, *self.monitor, module=self)

    def _rollouts(self) -> Rollouts:
        return data_of(self, Rollouts)
