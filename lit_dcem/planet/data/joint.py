"""Episodes of the current policy for PPO, which also go into a replay for the world model."""

from __future__ import annotations

from typing import Any

import torch

from lit_dcem.planet.data.environment_data import check_counts
from lit_dcem.planet.data.on_policy import OnPolicyBatch, OnPolicyRollouts
from lit_dcem.planet.data.replay import EpisodeReplay
from lit_dcem.planet.data.trajectories import Collection
from lit_dcem.training.stream import Stream


class JointRollouts(OnPolicyRollouts):
    """`OnPolicyRollouts` whose episodes go into a replay; every batch also has random sequences of it.

    Args:
        batch_size: sequences of the replay in a batch (paper: 50).
        sequence_length: of each (paper: 50).
        on_policy: all that `OnPolicyRollouts` takes.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(self, batch_size: int = 50, sequence_length: int = 50, **on_policy: Any) -> None:
        super().__init__(**on_policy)
        check_counts(batch_size=batch_size, sequence_length=sequence_length)
        self.batch_size, self.sequence_length = batch_size, sequence_length

    def setup(self, stage: str) -> None:
        begins = stage == "fit" and self._envs is None
        super().setup(stage)
        if begins:
            self._replay = self._new_replay()

    @property
    def replay(self) -> EpisodeReplay:
        """The finished episodes of this process."""
        return self._replay

    def train_dataloader(self) -> Stream:
        self._require_own(self._replay)
        return super().train_dataloader()

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "replay": self._replay.state_dict()}

    def _load(self, state: dict[str, Any]) -> None:
        self._replay.load_state_dict(state["replay"])
        super()._load(state)

    def _draw(self, generator: torch.Generator) -> OnPolicyBatch:
        batch = super()._draw(generator)
        return batch._replace(sequences=self._replay.sample(self.batch_size, self.sequence_length, generator))

    def _collect(self) -> Collection:
        collected = super()._collect()
        for episode in collected.episodes:
            self._replay.append(episode)
        return collected
