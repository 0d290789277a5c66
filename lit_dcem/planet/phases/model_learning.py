"""The part of an update that learns the world model from a replay, and with it the value at the planner's horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor

from lit_dcem.planet.data.episode import Sequences, side_by_side
from lit_dcem.planet.data.replay import EpisodeReplay
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.model.world_model import WorldModel, WorldModelLoss
from lit_dcem.planet.phases.value_learning import NUM_MOMENTS, ValueLearning
from lit_dcem.planet.planning.planner import ModelPlanner

MODEL_METRICS = (
    "train/loss", "train/observation", "train/reward", "train/kl", "train/termination",
    "train/value_loss", "train/value_accuracy", "train/value_weight",
)  # fmt: skip
"""what a phase that learns a world model logs in addition to `Planet`"""


@dataclass(frozen=True)
class ModelLearning:
    """Learns the world model of a phase and, with ``value_learning``, its planner's value, which is frozen otherwise.

    Raises:
        ValueError: ``value_learning`` for a planner without a value.
    """

    world_model: WorldModel
    planner: ModelPlanner
    normalize: bool
    """fit the world model's scale to the first batch"""
    value_learning: ValueLearning | None

    def __post_init__(self) -> None:
        value = self.planner.value
        if self.value_learning is not None:
            if value is None:
                raise ValueError("value_learning must come with a value of the planner, got none.")
            self.value_learning.begin(value)
        elif value is not None:
            value.requires_grad_(False)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters for the optimizer: the world model's, and the value's if it is learned."""
        groups: list[dict[str, Any]] = [{"params": self.world_model.parameters()}]
        if self.value_learning is not None and self.planner.value is not None:
            groups.append({"params": self.planner.value.parameters(), **self.value_learning.options})
        return groups

    def before_update(self, update: int, sequences: Sequences, replay: EpisodeReplay, strategy: Strategy) -> None:
        """All that changes without gradients: the scale, the slow copy of the value, and the value's weight.

        Args:
            update: number of the update, from 0.
            sequences: of the batch.
            replay: holds the episodes that the value is measured on.
            strategy: communicates with the other processes of the run.
        """
        if self.normalize and update == 0:
            self.world_model.scale.fit(strategy.broadcast(sequences.observations))
        learning, value = self.value_learning, self.planner.value
        if learning is not None and value is not None:
            learning.follow(value)
            if update and update % learning.measure_interval == 0:
                moments = self._moments(learning, value, replay, sequences.rewards.device)
                learning.trust(value, strategy.reduce(moments, reduce_op="sum"))

    def likelihood(self, sequences: Sequences) -> tuple[WorldModelLoss, dict[str, Tensor]]:
        """The world model's loss, and what to log."""
        seen = sequences.observations, sequences.actions, sequences.rewards
        loss = self.world_model.loss(*seen, first=sequences.first, terminated=sequences.terminated)
        parts = {"loss": loss.total, "observation": loss.observation, "reward": loss.reward, "kl": loss.kl}
        if self.world_model.termination_head is not None:
            parts["termination"] = loss.termination
        return loss, {f"train/{name}": part for name, part in parts.items()}

    def value_loss(self, sequences: Sequences, likelihood: WorldModelLoss) -> tuple[Tensor | float, dict[str, Tensor]]:
        """The loss of the planner's value, 0 if it is not learned, and what to log."""
        learning, value = self.value_learning, self.planner.value
        if learning is None or value is None:
            return 0.0, {}
        loss = learning.loss(value, self.world_model, likelihood.posteriors.belief, sequences)
        parts = {"loss": loss, "accuracy": learning.accuracy, "weight": value.weight}
        return loss, {f"train/value_{name}": part for name, part in parts.items()}

    @torch.no_grad()
    def _moments(
        self, learning: ValueLearning, value: ValueEnsemble, replay: EpisodeReplay, device: torch.device
    ) -> Tensor:
        """`ValueLearning.moments` of the episodes held back, of this process."""
        held = learning.measured(replay.num_episodes)
        if not held:
            return torch.zeros(NUM_MOMENTS, device=device)
        episodes = side_by_side([replay.episode(index) for index in held])
        episodes = Sequences(*(part.to(device) for part in episodes))
        actions = episodes.actions.to(self.world_model.scale.mean)
        posteriors, _ = self.world_model.observe_sequence(actions, episodes.observations, first=episodes.first)
        return learning.moments(value, self.world_model, posteriors.belief, episodes, self.planner.horizon)
