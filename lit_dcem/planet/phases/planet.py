"""Base class of the phases of PlaNet: a planner that acts in a world model, and returns of whole episodes."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import EnvironmentData
from lit_dcem.planet.data.evaluation_episodes import Evaluation
from lit_dcem.planet.data.on_policy import OnPolicyBatch
from lit_dcem.planet.data.policies import Policies
from lit_dcem.planet.data.rollouts import RolloutBatch
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.training.optimizing import check_clipping, check_precision, clip_groups
from lit_dcem.training.ranks import gathered

Kind = TypeVar("Kind", bound=EnvironmentData)
COUNTS = ("simulator_steps", "agent_steps", "episodes", "diverged")
"""of a batch: the progress of its process"""


class Planet(pl.LightningModule):
    """Plans every action in a world model; subclasses define what learns, and from which data.

    Logs

    - ``train/return`` of the episodes that ended in an epoch, exploration noise included; ``val/return``, without noise
    - ``train/simulator_steps`` (action repeat included) and ``train/agent_steps``, ``train/episodes`` and
      ``train/diverged``, summed over processes, to draw losses and returns against
    - ``speed/steps_per_second`` of the simulator over an epoch with everything in it, and the shares of its time for
      ``speed/plan``, ``speed/environment`` and ``speed/model`` (the update)
    - ``val/seconds_per_decision``, for all evaluation episodes at once

    In the logs, what is of a validation or of a whole epoch stands over the simulator steps so far, of all processes
    together, and what is of an update over the updates.

    Args:
        world_model: its sizes must be those of the environment.
        planner: chooses actions.
    """

    metrics: tuple[str, ...] = (
        "val/return", "val/seconds_per_decision", "val/simulator_steps", "train/return", "speed/steps_per_second",
    )  # fmt: skip
    """what a callback can watch"""
    monitor = ("val/return", "max")
    """the metric that tells the best checkpoint, and where it is best"""
    pictures = "lit_dcem.PlanetPlots"
    """the callback that draws"""

    def __init__(self, world_model: WorldModel, planner: ModelPlanner) -> None:
        super().__init__()
        planner.check_sizes(world_model)
        self.world_model = world_model
        self.planner = planner
        self.train_return = MeanMetric()
        self.evaluation_return = MeanMetric()
        self._spent = Spent()
        self._warned_of_ends = False

    @property
    def policy(self) -> ModelPolicy:
        """Acts by planning with the world model as it is."""
        return ModelPolicy(self.world_model, self.planner)

    def policies(self) -> Policies:
        """What acts in the data."""
        return Policies(self.policy)

    def setup(self, stage: str) -> None:
        check_precision(self)
        rollouts, rssm = self._rollouts(), self.world_model.rssm
        ours = {"observation_dim": rssm.observation_dim, "action_dim": rssm.action_dim}
        if ours != rollouts.sizes:
            rule = f"The world model must have the sizes of {rollouts.env}, {_listed(rollouts.sizes)}"
            raise UsageError(f"{rule}, got {_listed(ours)}.")
        rollouts.connect(self.policies())

    def on_train_start(self) -> None:
        """Refuse now what the first update would refuse, when seed episodes have taken their time."""
        for optimizer in self.trainer.optimizers:
            check_clipping(self, optimizer, self.trainer.gradient_clip_algorithm)

    def on_train_epoch_start(self) -> None:
        self._spent = Spent(self._rollouts().simulator_steps)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._spent.begin_update()
        self._warn_of_ends()

    def _begins_update(self, batch_idx: int) -> bool:
        """Whether a batch is the first whose gradients count in an update, of those that accumulate."""
        return batch_idx % self.trainer.accumulate_grad_batches == 0

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._spent.end_update(batch)

    def on_train_epoch_end(self) -> None:
        mean = self.train_return.compute()
        self.train_return.reset()
        if not mean.isnan():  # not if no episode ended
            self.log("train/return", mean, prog_bar=True, sync_dist=True)
        self.log_dict(self._spent.report(), sync_dist=True)
        self._log_axis(on_step=False)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of each parameter group separately, if there are several."""
        if len(optimizer.param_groups) == 1:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_groups(self, optimizer, gradient_clip_val, gradient_clip_algorithm)

    def validation_step(self, batch: Evaluation, batch_idx: int) -> None:
        self._measure(batch, "val")
        if self.trainer.state.fn == "fit":
            steps = float(self._rollouts().simulator_steps)
            self.log("val/simulator_steps", steps, batch_size=1, sync_dist=True, reduce_fx="sum")
            self._log_axis()

    def test_step(self, batch: Evaluation, batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: Evaluation, stage: str) -> None:
        self.evaluation_return.update(batch.returns)
        self.log(f"{stage}/return", self.evaluation_return, prog_bar=True, batch_size=1)
        self.log(f"{stage}/seconds_per_decision", batch.seconds_per_decision, batch_size=1, sync_dist=True)

    def _warn_of_ends(self) -> None:
        """Once, where episodes end by themselves and nobody predicts it."""
        rollouts = self._rollouts()
        if rollouts.terminates and self.world_model.termination_head is None and not self._warned_of_ends:
            self._warned_of_ends = True
            rank_zero_warn(
                f"Episodes of {rollouts.env} end by themselves, which the world model does not predict: plans count "
                "imagined rewards beyond the end, unless it is trained with a termination_weight above 0."
            )

    def _log_progress(self, batch: RolloutBatch | OnPolicyBatch) -> None:
        """Progress of the rollouts, and returns of their episodes."""
        counts = {f"train/{name}": float(getattr(batch, name)) for name in COUNTS}
        self.log_dict(counts, batch_size=1, sync_dist=True, reduce_fx="sum")
        self.train_return.update(batch.returns)

    def _log_axis(self, **options: Any) -> None:
        """Lightning plots the metrics of one call over the value named step."""
        steps = float(self._rollouts().simulator_steps)
        self.log("step", steps, batch_size=1, sync_dist=True, reduce_fx="sum", **options)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the returns of an epoch that is not over, of every process."""
        checkpoint["train_returns"] = gathered([self.train_return.mean_value, self.train_return.weight])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        returns = checkpoint.get("train_returns", [])
        if len(returns) == self.trainer.world_size:
            self.train_return.mean_value, self.train_return.weight = returns[self.global_rank]

    def _rollouts(self) -> EnvironmentData:
        return data_of(self, EnvironmentData)


def data_of(module: pl.LightningModule, kind: type[Kind]) -> Kind:
    """The data of the run that a module is in.

    Raises:
        UsageError: data of another kind.
    """
    data = getattr(module.trainer, "datamodule", None)
    if not isinstance(data, kind):
        rule = f"{type(module).__name__} learns from lit_dcem.{kind.__name__}"
        raise UsageError(f"{rule}, got {type(data).__name__} as data.")
    return data


class Spent:
    """Where the time of an epoch went; validation does not count."""

    def __init__(self, simulator_steps: int = 0) -> None:
        self._simulator_steps = self._latest = simulator_steps
        self._started = self._update_began = self._ended = time.perf_counter()
        self._seconds = {"plan": 0.0, "environment": 0.0, "model": 0.0}

    def begin_update(self) -> None:
        self._update_began = time.perf_counter()

    def end_update(self, batch: RolloutBatch | OnPolicyBatch) -> None:
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
