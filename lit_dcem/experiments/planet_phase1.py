"""PlaNet, phase 1: learn a world model while planning in it with CEM (section 5.3 of the paper, figures 3 and 11)."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric

from lit_dcem.data.evaluation_episodes import Evaluation
from lit_dcem.data.rollouts import RolloutBatch, Rollouts
from lit_dcem.errors import UsageError
from lit_dcem.experiments.training import optimize
from lit_dcem.models.observation_scale import ObservationScale
from lit_dcem.models.world_model import WorldModel, WorldModelLoss
from lit_dcem.planning.model_planner import ModelPlanner
from lit_dcem.planning.model_policy import ModelPolicy


class PlanetPhase1(pl.LightningModule):
    """Learns a world model from rollouts, in which it plans every action itself: model-based RL without a policy.

    `Rollouts` steps the environment with `policy` between updates. One optimizer step is one update of the world model
    on sequences of the replay. Logs

    - ``train/return`` of the episodes that ended in an epoch, exploration noise included; ``val/return``, without noise
    - ``train/loss`` and its parts ``train/observation``, ``train/reward``, ``train/kl`` (`WorldModelLoss`)
    - ``train/simulator_steps`` (action repeat included) and ``train/agent_steps``, ``train/episodes`` and
      ``train/diverged``, summed over processes, which tell where on the way a loss or return was
    - ``speed/steps_per_second`` of the simulator over an epoch with everything in it, and the shares of its time for
      ``speed/plan``, ``speed/environment`` and ``speed/model`` (the update)
    - ``val/seconds_per_decision``, for all evaluation episodes at once

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
        super().__init__()
        self.world_model = world_model
        self.planner = planner
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.normalize = normalize
        self.scale = ObservationScale(world_model.rssm.observation_dim)
        self.train_return = MeanMetric()
        self.evaluation_return = MeanMetric()
        self._spent = Spent()

    @property
    def policy(self) -> ModelPolicy:
        """Acts by planning with the world model as it is."""
        return ModelPolicy(self.world_model, self.planner, self.scale)

    def setup(self, stage: str) -> None:
        rollouts, rssm = self._rollouts(), self.world_model.rssm
        sizes = rollouts.sizes
        ours = {"observation_dim": rssm.observation_dim, "action_dim": rssm.action_dim}
        if ours != sizes:
            rule = f"The world model must have the sizes of {rollouts.env}, {_listed(sizes)}"
            raise UsageError(f"{rule}, got {_listed(ours)}.")
        rollouts.connect(self.policy)

    def on_train_epoch_start(self) -> None:
        self._spent = Spent(self._rollouts().simulator_steps)

    def on_train_batch_start(self, batch: RolloutBatch, batch_idx: int) -> None:
        self._spent.begin_update()
        if self.normalize and self.global_step == 0:
            self.scale.fit(self.trainer.strategy.broadcast(batch.sequences.observations))

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        return self._likelihood(batch).total

    def _likelihood(self, batch: RolloutBatch) -> WorldModelLoss:
        """The world model's loss; logs it, and how far the rollouts are."""
        sequences = batch.sequences
        loss = self.world_model.loss(self.scale(sequences.observations), sequences.actions, sequences.rewards)
        parts = {"loss": loss.total, "observation": loss.observation, "reward": loss.reward, "kl": loss.kl}
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, batch_size=1)
        names = ("simulator_steps", "agent_steps", "episodes", "diverged")
        counts = {f"train/{name}": float(getattr(batch, name)) for name in names}
        self.log_dict(counts, batch_size=1, sync_dist=True, reduce_fx="sum")
        self.train_return.update(batch.returns)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: RolloutBatch, batch_idx: int) -> None:
        self._spent.end_update(batch)

    def on_train_epoch_end(self) -> None:
        mean = self.train_return.compute()
        self.train_return.reset()
        if not mean.isnan():  # not if no episode ended
            self.log("train/return", mean, prog_bar=True, sync_dist=True)
        self.log_dict(self._spent.report(), sync_dist=True)

    def validation_step(self, batch: Evaluation, batch_idx: int) -> None:
        self._measure(batch, "val")
        if self.trainer.state.fn == "fit":
            steps = float(self._rollouts().simulator_steps)
            self.log("val/simulator_steps", steps, batch_size=1, sync_dist=True, reduce_fx="sum")

    def test_step(self, batch: Evaluation, batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: Evaluation, stage: str) -> None:
        self.evaluation_return.update(batch.returns)
        self.log(f"{stage}/return", self.evaluation_return, prog_bar=True, batch_size=1)
        self.log(f"{stage}/seconds_per_decision", batch.seconds_per_decision, batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimize(self.world_model.parameters(), self.optimizer, self.lr_scheduler, "val/return")

    def _rollouts(self) -> Rollouts:
        rollouts = getattr(self.trainer, "datamodule", None)
        if not isinstance(rollouts, Rollouts):
            rule = f"{type(self).__name__} learns from lit_dcem.Rollouts"
            raise UsageError(f"{rule}, got {type(rollouts).__name__} as data.")
        return rollouts


class Spent:
    """Where the time of an epoch went; validation does not count."""

    def __init__(self, simulator_steps: int = 0) -> None:
        self._simulator_steps = self._latest = simulator_steps
        self._started = self._update_began = self._ended = time.perf_counter()
        self._seconds = {"plan": 0.0, "environment": 0.0, "model": 0.0}

    def begin_update(self) -> None:
        self._update_began = time.perf_counter()

    def end_update(self, batch: RolloutBatch) -> None:
        self._ended = time.perf_counter()
        self._latest = batch.simulator_steps
        spent = (batch.plan_seconds, batch.environment_seconds, self._ended - self._update_began)
        for name, seconds in zip(self._seconds, spent, strict=True):
            self._seconds[name] += seconds

    def report(self) -> dict[str, float]:
        """Simulator steps a second of this process, and shares of the time."""
        total = self._ended - self._started
        shares = {f"speed/{name}": seconds / total for name, seconds in self._seconds.items()}
        return {"speed/steps_per_second": (self._latest - self._simulator_steps) / total, **shares}


def _listed(sizes: dict[str, int]) -> str:
    return " and ".join(f"{name} {size}" for name, size in sizes.items())
