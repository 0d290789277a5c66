"""Episodes of the policy as it is, to learn it from, which also go into a replay that a world model learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lit_dcem.data.environment_data import check_counts
from lit_dcem.data.on_policy import OnPolicyBatch, OnPolicyRollouts
from lit_dcem.data.replay import EpisodeReplay
from lit_dcem.data.trajectories import Collected


class JointRollouts(OnPolicyRollouts):
    """`OnPolicyRollouts` whose episodes go into a replay; every batch also has random sequences of it.

    Args:
        env: a task of the dm_control suite (``cheetah-run``) or the id of a Gymnasium environment.
        action_repeat: simulator steps for each action.
        num_envs: environments that are stepped together.
        num_episodes: collected an epoch in each process.
        passes: over the steps of a collection.
        num_batches: of a pass.
        batch_steps: steps of time in a batch; if not given, all are shared out among the batches of a pass.
        batch_size: sequences of the replay in a batch (paper: 50).
        sequence_length: of each (paper: 50).
        evaluation_episodes: of a validation or test, in all processes together, each the same every time.
        seed: of environments, noise and batches; torch's own seed if none is given.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        env: str,
        action_repeat: int = 1,
        num_envs: int = 10,
        num_episodes: int = 10,
        passes: int = 1,
        num_batches: int = 10,
        batch_steps: int | None = None,
        batch_size: int = 50,
        sequence_length: int = 50,
        evaluation_episodes: int = 10,
        seed: int | None = None,
    ) -> None:
        collecting = env, action_repeat, num_envs, num_episodes, passes, num_batches, batch_steps
        super().__init__(*collecting, evaluation_episodes, seed)
        check_counts(batch_size=batch_size, sequence_length=sequence_length)
        self.batch_size, self.sequence_length = batch_size, sequence_length

    def setup(self, stage: str) -> None:
        begins = stage == "fit" and self._envs is None
        super().setup(stage)
        if begins:
            folder = Path(self._trainer.log_dir or self._trainer.default_root_dir)
            sizes = self.sizes["observation_dim"], self.sizes["action_dim"]
            self._replay = EpisodeReplay(folder / "replay" / f"rank_{self._trainer.global_rank}", *sizes)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "replay": self._replay.state_dict()}

    def _load(self, state: dict[str, Any]) -> None:
        self._replay.load_state_dict(state["replay"])
        super()._load(state)

    def _draw(self, generator: torch.Generator) -> OnPolicyBatch:
        batch = super()._draw(generator)
        return batch._replace(sequences=self._replay.sample(self.batch_size, self.sequence_length, generator))

    def _collect(self) -> Collected:
        collected = super()._collect()
        for episode in collected.episodes:
            self._replay.append(episode)
        return collected
