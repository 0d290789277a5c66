"""PlaNet, phase 1: learn a world model while planning in it with CEM (section 5.3 of the paper, figures 3 and 11)."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from lit_dcem.planet.data.episode import Sequences, side_by_side
from lit_dcem.planet.data.rollouts import RolloutBatch, Rollouts
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.model.world_model import WorldModel, WorldModelLoss
from lit_dcem.planet.phases.planet import Planet, data_of
from lit_dcem.planet.phases.value_learning import NUM_MOMENTS, ValueLearning
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.training.optimizing import clip_groups, optimize


class PlanetPhase1(Planet):
    """Learns a world model from rollouts, in which it plans every action itself: model-based RL without a policy.

    `Rollouts` steps the environment with `policy` between updates. One optimizer step is one update of the world model
    on sequences of the replay. Logs, beside what `Planet` logs, ``train/loss`` and its parts ``train/observation``,
    ``train/reward``, ``train/kl`` (`WorldModelLoss`), and ``train/termination`` if the world model predicts it; and if
    the planner's value is learned, ``train/value_loss``, ``train/value_accuracy`` (explained variance) and
    ``train/value_weight``.

    Args:
        world_model: to learn; its sizes must be those of the environment.
        planner: chooses actions.
        optimizer: made from the world model's parameters (paper: Adam, 1e-3, eps 1e-4).
        lr_scheduler: steps once an epoch; one that waits for a plateau watches ``val/return``.
        normalize: give observations to the model in units of their spread in the first batch, of seed episodes; the
            observation loss is then in these units. Else as they are (paper).
        value_learning: how the planner's ``value`` is learned, in a parameter group of its own, whose gradients are
            clipped apart; else it stays as it is.

    Raises:
        ValueError: a value to be learned, and none in the planner.
    """

    metrics = (
        *Planet.metrics, "train/loss", "train/observation", "train/reward", "train/kl", "train/termination",
        "train/value_loss", "train/value_accuracy", "train/value_weight",
    )  # fmt: skip

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
        self.normalize = normalize
        self.value_learning = value_learning
        if value_learning is not None:
            if planner.value is None:
                raise ValueError("value_learning must come with a value of the planner, got none.")
            value_learning.begin(planner.value)
        elif planner.value is not None:
            planner.value.requires_grad_(False)

    def on_train_batch_start(self, batch: RolloutBatch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.normalize and self.global_step == 0:
            self.scale.fit(self.trainer.strategy.broadcast(batch.sequences.observations))
        if self.value_learning is not None and self.planner.value is not None:
            self.value_learning.follow(self.planner.value)
            if self.global_step and self.global_step % self.value_learning.measure_interval == 0:
                self._measure_value(self.planner.value, self.value_learning)

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        likelihood = self._likelihood(batch)
        return likelihood.total + self.horizon_loss(batch, likelihood)

    def horizon_loss(self, batch: RolloutBatch, likelihood: WorldModelLoss) -> Tensor | float:
        """Of the value at the planner's horizon; 0 if it is not learned."""
        learning, value = self.value_learning, self.planner.value
        if learning is None or value is None:
            return 0.0
        loss = learning.loss(value, self.world_model, likelihood.posteriors.belief, batch.sequences)
        parts = {"loss": loss, "accuracy": learning.accuracy, "weight": value.weight}
        self.log_dict({f"train/value_{name}": part for name, part in parts.items()}, batch_size=1)
        return loss

    @torch.no_grad()
    def _measure_value(self, value: ValueEnsemble, learning: ValueLearning) -> None:
        """Let the value weigh as much as it explains of the episodes held back, of all processes."""
        replay, model = self._rollouts().replay, self.world_model
        held, moments = learning.measured(replay.num_episodes), torch.zeros(NUM_MOMENTS, device=self.device)
        if held:
            episodes = side_by_side([replay.episode(index) for index in held])
            episodes = Sequences(*(part.to(self.device) for part in episodes))
            observed = self.scale(episodes.observations)
            posteriors, _ = model.rssm.observe_sequence(episodes.actions.to(observed), observed, first=episodes.first)
            moments = learning.moments(value, model, posteriors.belief, episodes, self.planner.horizon)
        learning.trust(value, self.trainer.strategy.reduce(moments, reduce_op="sum"))

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
        return optimize(self.groups(), self.optimizer, self.lr_scheduler, "val/return")

    def groups(self) -> list[dict[str, Any]]:
        """Parameters for the optimizer: the world model's, and the value's if it is learned."""
        groups: list[dict[str, Any]] = [{"params": self.world_model.parameters()}]
        if self.value_learning is not None and self.planner.value is not None:
            groups.append({"params": self.planner.value.parameters(), **self.value_learning.options})
        return groups

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of world model and value apart."""
        if self.value_learning is None:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_groups(self, optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _rollouts(self) -> Rollouts:
        return data_of(self, Rollouts)
