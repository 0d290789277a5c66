"""Rollouts of an environment, streamed through Lightning: act, store the episodes, and sample batches of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.envs.policy import Policy, PolicyState
from lit_dcem.errors import require
from lit_dcem.planet.data.collector import Collector
from lit_dcem.planet.data.environment_data import EnvironmentData, check_counts, check_replay
from lit_dcem.planet.data.episode import Episode, Sequences
from lit_dcem.planet.data.replay import EpisodeReplay
from lit_dcem.training.last_checkpoint import raise_if_stopped
from lit_dcem.training.run_folder import folder_of, the_newest_run
from lit_dcem.training.stream import Stream


class Pace(NamedTuple):
    """How many steps the policy takes between updates; a run that is resumed at another pace keeps what it has done."""

    interval: float
    """steps between two updates"""
    updates: int
    """from which on the policy acts at this pace"""
    steps: float = 0.0
    """due until then"""

    def due(self, updates: int) -> float:
        """Steps that the policy must have taken before the update of this number."""
        return self.steps + max(0, updates - self.updates) * self.interval

    def followed_by(self, new: Pace, updates: int) -> Pace:
        """The pace from these updates on, if a run of this pace is resumed there with the options of a new one."""
        if updates < self.updates:
            return new
        return self if new.interval == self.interval else Pace(new.interval, updates, self.due(updates))


class RolloutBatch(NamedTuple):
    """Sequences to learn from, and the progress of the rollouts of this process."""

    sequences: Sequences
    returns: Float[Tensor, " finished"]
    """of the episodes that ended since the last batch"""
    simulator_steps: int
    """action repeats counted"""
    agent_steps: int
    episodes: int
    diverged: int
    """episodes that ended because the physics broke down"""
    plan_seconds: float
    """spent on choosing actions since the last batch"""
    environment_seconds: float
    """spent in the simulator since the last batch"""


class Rollouts(EnvironmentData):
    """Steps environments between updates, and samples sequences of the episodes so far; validates on whole episodes.

    The policies come from the module: ``datamodule.connect(Policies(acting, seeding))``, in its ``setup``. Until the
    seed episodes are there, actions are those of ``seeding``, or uniform. Every process has environments, seeds and a
    replay of its own. Finished episodes are in the file ``replay/rank_N/episodes.f32`` of the run folder; everything
    else that a resumed run needs is in its checkpoints.

    Args:
        env: a task of the dm_control suite (``cheetah-run``) or the id of a Gymnasium environment.
        action_repeat: simulator steps for each action; by default the usual number for the environment
            (`usual_action_repeat`).
        num_envs: environments that are stepped together (1 in the paper).
        batch_size: sequences an update (paper: 50).
        sequence_length: of each (paper: 50).
        update_interval: steps of an agent between two updates, in all environments together; may be a fraction (2.5 for
            100 updates in an episode of 250 steps, as in PlaNet's code). 0: learn off line, from the seed episodes.
        updates_per_epoch: length of an epoch, after which Lightning may validate.
        seed_episodes: before the first update (paper: 5), with uniform actions unless the module plans them.
        seed_updates: number of updates on the seed episodes alone, before the policy acts.
        exploration_noise: standard deviation on the policy's actions in [-1, 1] (paper: 0.3); none in validation.
        evaluation_episodes: of a validation or test, in all processes together, each the same every time.
        seed: of environments, noise and batches; torch's own seed if none is given.
        initial_replay: folder of another run in the same environment, or of several, of which the newest counts. The
            replay begins with its episodes, shared out among the processes of this run; they count as seed episodes,
            but not as steps of this run.
        time_limit: simulator steps (action repeat included) after which an episode is cut off. Set it for tasks without
            a limit of their own, whose episodes are otherwise cut off after 10,000 steps.
        env_options: keyword arguments of `gymnasium.make`, and so of the environment, or of the task in dm_control.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        env: str,
        action_repeat: int | None = None,
        num_envs: int = 1,
        batch_size: int = 50,
        sequence_length: int = 50,
        update_interval: float = 2.5,
        updates_per_epoch: int = 100,
        seed_episodes: int = 5,
        seed_updates: int = 100,
        exploration_noise: float = 0.3,
        evaluation_episodes: int = 10,
        seed: int | None = None,
        initial_replay: str | None = None,
        time_limit: int | None = None,
        env_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env, action_repeat, evaluation_episodes, seed, time_limit, env_options)
        counts = {"num_envs": num_envs, "batch_size": batch_size, "sequence_length": sequence_length}
        check_counts(**counts, updates_per_epoch=updates_per_epoch, seed_episodes=seed_episodes)
        _check(update_interval, seed_updates, exploration_noise)
        self.num_envs = num_envs
        self.batch_size, self.sequence_length = batch_size, sequence_length
        self.update_interval, self.updates_per_epoch = update_interval, updates_per_epoch
        self.seed_episodes, self.seed_updates = seed_episodes, seed_updates
        self.exploration_noise = exploration_noise
        self.initial_replay = initial_replay
        self._collector: Collector | None = None
        self._updates, self._agent_steps, self._policy_steps = 0, 0, 0
        self._pace = Pace(update_interval, seed_updates)

    @property
    def policy_state(self) -> PolicyState | None:
        """The policy's state after its last actions; None before the first."""
        return None if self._collector is None else self._collector.policy_state

    @property
    def replay(self) -> EpisodeReplay:
        """The finished episodes of this process."""
        return self._replay

    def setup(self, stage: str) -> None:
        if stage != "fit" or self._collector is not None:
            return
        self._envs = envs = self.make_envs(self.num_envs, self.seed, self._trainer.global_rank)
        self._collector = Collector(envs, self.exploration_noise)
        self._replay = self._new_replay()

    def train_dataloader(self) -> Stream:
        self._require_own(self._replay)
        rank = self._trainer.global_rank
        return Stream(self._draw, self.updates_per_epoch, self.seed, rank, position=self._updates)

    def state_dict(self) -> dict[str, Any]:
        assert self._collector is not None
        own = {"seed": self.seed, "counts": [self._updates, self._agent_steps, self._policy_steps]}
        own |= {"collector": self._collector.state_dict(), "replay": self._replay.state_dict(), "pace": [*self._pace]}
        return self._gathered(own)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._collector is None:
            return
        own = self._own(state_dict)
        self._replay.load_state_dict(own["replay"])
        self._collector.load_state_dict(own["collector"])
        self.seed = own["seed"]
        self._updates, self._agent_steps, self._policy_steps = own["counts"]
        if "pace" in own:  # older checkpoints lack it
            self._pace = Pace(*own["pace"]).followed_by(self._pace, self._updates)

    def _draw(self, generator: torch.Generator) -> RolloutBatch:
        """Take the steps that are due before this update, then sample its batch."""
        assert self._collector is not None
        collector, seconds = self._collector, (self._collector.plan_seconds, self._collector.environment_seconds)
        returns = torch.tensor(self._collect(collector, generator))
        self._updates += 1
        return RolloutBatch(
            self._replay.sample(self.batch_size, self.sequence_length, generator),
            returns,
            collector.envs.simulator_steps,
            self._agent_steps,
            self._replay.num_episodes,
            collector.envs.num_diverged,
            collector.plan_seconds - seconds[0],
            collector.environment_seconds - seconds[1],
        )

    def _collect(self, collector: Collector, generator: torch.Generator) -> list[float]:
        """Returns of the episodes that ended."""
        returns = []
        if self.initial_replay is not None and not self._replay.num_episodes:
            self._begin_with(Path(self.initial_replay))
        while self._replay.num_episodes < self.seed_episodes:
            raise_if_stopped(self._trainer)
            returns += self._step(collector, self._connected().seeding, generator)
            if self._replay.num_episodes >= self.seed_episodes:
                collector.forget()
        while self._policy_steps < self._pace.due(self._updates):
            returns += self._step(collector, self._connected().acting, generator)
            self._policy_steps += self.num_envs
        return returns

    def _begin_with(self, run: Path) -> None:
        """Copy another run's episodes; several processes share them out, however many processes that run had."""
        newest = None if (run / "replay").exists() else the_newest_run(run)
        folder = (run if newest is None else folder_of(newest)) / "replay"
        parts = sorted(folder.glob("rank_*"))
        require(bool(parts), "initial_replay must be the folder of a run that has a replay", self.initial_replay)
        check_replay(self, folder.parent)
        episodes = (episode for part in parts for episode in self._episodes_in(part))
        for episode in islice(episodes, self._trainer.global_rank, None, self._trainer.world_size):
            self._keep(episode)

    def _episodes_in(self, folder: Path) -> Iterator[Episode]:
        """All that one process has left in a folder."""
        replay = EpisodeReplay(folder, self._replay.observation_dim, self._replay.action_dim)
        replay.take_all()
        return map(replay.episode, range(replay.num_episodes))

    def _step(self, collector: Collector, policy: Policy | None, generator: torch.Generator) -> list[float]:
        """One step of all environments; what ends goes into the replay."""
        finished = [episode for _, episode in collector.step(policy, generator).finished]
        self._agent_steps += self.num_envs
        for episode in finished:
            self._keep(episode)
        return [episode.rewards.sum().item() for episode in finished]

    def _keep(self, episode: Episode) -> None:
        self._replay.append(episode)
        self.terminates |= episode.terminated


def _check(update_interval: float, seed_updates: int, exploration_noise: float) -> None:
    if not 0 <= update_interval < math.inf:
        raise ValueError(f"update_interval must be at least 0 and finite, got {update_interval}.")
    if seed_updates < 0 or not 0 <= exploration_noise < math.inf:
        got = f"{seed_updates} and {exploration_noise}"
        raise ValueError(f"seed_updates and exploration_noise must be at least 0 and finite, got {got}.")
