"""Base class of datamodules with environments: the task, the policies, and episodes to validate on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml

from lit_dcem.envs.make import make, usual_action_repeat
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.evaluation_episodes import EvaluationEpisodes
from lit_dcem.planet.data.policies import Policies
from lit_dcem.planet.data.replay import EpisodeReplay
from lit_dcem.training.ranks import gathered
from lit_dcem.training.run_folder import run_folder
from lit_dcem.training.stream import checked_seed

VALIDATION_SEED = 1_000_003
TEST_SEED = 1_000_033
"""far from the seeds that people choose for training"""
EVALUATION_SEEDS = range(900_001, 1_000_001)
"""of environments, one for each episode, reserved for evaluations: training must not use them"""


class EnvironmentData(pl.LightningDataModule):
    """Environments of one task, in which policies of the module act; validates and tests on whole episodes.

    The policies come from the module: ``datamodule.connect(Policies(...))``, in its ``setup``. Every process has
    environments and seeds of its own.

    The randomness of episode k (from 1) of environment i of process r depends on (seed, r, i, k) alone. The seed is
    ``seed`` in training, `VALIDATION_SEED` in validation and `TEST_SEED` in a test; ``lit-dcem evaluate`` adds its
    ``--seed`` to the last. With ``--env_seed=N`` each of its episodes has a seed of its own: episode j, from 0, is
    (N + j, 0, 0, 1), however many run at once. The evaluations of a sweep have the first of `EVALUATION_SEEDS`. Nothing
    else can have one of these: those of validation and tests lie above them, and a ``seed`` among them is refused.

    Args:
        env: a task of the dm_control suite (``cheetah-run``) or the id of a Gymnasium environment.
        action_repeat: simulator steps for each action; by default the usual number for the environment
            (`usual_action_repeat`).
        evaluation_episodes: of a validation or test, in all processes together, each the same every time.
        seed: of environments, noise and batches; torch's own seed if none is given.
        time_limit: simulator steps (action repeat included) after which an episode is cut off. Set it for tasks without
            a limit of their own, whose episodes are otherwise cut off after 10,000 steps.
        env_options: keyword arguments of `gymnasium.make`, and so of the environment, or of the task in dm_control.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        env: str,
        action_repeat: int | None,
        evaluation_episodes: int,
        seed: int | None,
        time_limit: int | None = None,
        env_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        action_repeat = usual_action_repeat(env) if action_repeat is None else action_repeat
        check_counts(action_repeat=action_repeat, evaluation_episodes=evaluation_episodes)
        check_counts(time_limit=1 if time_limit is None else time_limit)
        self.env, self.action_repeat = env, action_repeat
        self.time_limit, self.env_options = time_limit, env_options
        self.evaluation_episodes = evaluation_episodes
        self.seed = _of_training(checked_seed(seed))
        self.filming = False
        self.terminates = False
        """whether an episode of training has terminated"""
        self._policies: Policies | None = None
        self._envs: VectorEnv | None = None  # of training

    def connect(self, policies: Policies) -> None:
        """Take the policies that act from now on."""
        self._policies = policies

    @cached_property
    def sizes(self) -> dict[str, int]:
        """``observation_dim`` and ``action_dim`` of the environment."""
        envs = self._envs or self.make_envs(1, 0)
        return {"observation_dim": envs.observation_dim, "action_dim": envs.action_dim}

    @property
    def simulator_steps(self) -> int:
        """Of this process so far, action repeats counted."""
        return 0 if self._envs is None else self._envs.simulator_steps

    def make_envs(self, num_envs: int, seed: int | Sequence[int], rank: int = 0) -> VectorEnv:
        """Environments as in training; of one seed, or with one for each.

        Raises:
            UsageError: there is no such environment, or it does not take its options.
        """
        return make(self.env, num_envs, self.action_repeat, seed, rank, self.time_limit, self.env_options)

    def val_dataloader(self) -> EvaluationEpisodes:
        return self._evaluation(VALIDATION_SEED)

    def test_dataloader(self) -> EvaluationEpisodes:
        return self._evaluation(TEST_SEED)

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None
        return self.trainer

    def _evaluation(self, seed: int) -> EvaluationEpisodes:
        ranks, rank = self._trainer.world_size, self._trainer.global_rank
        count = math.ceil(self.evaluation_episodes / ranks)
        make, policy = lambda: self.make_envs(count, seed, rank), lambda: self._connected().acting.with_seed(0)
        return EvaluationEpisodes(make, policy, lambda: self.filming)

    def _new_replay(self) -> EpisodeReplay:
        """Of this process, in the folder of the run."""
        folder = run_folder(self._trainer) / "replay" / f"rank_{self._trainer.global_rank}"
        return EpisodeReplay(folder, **self.sizes)

    def _require_own(self, replay: EpisodeReplay) -> None:
        """Raise a UsageError if a new run would overwrite the replay of another one."""
        if self._trainer.ckpt_path is None and replay.num_episodes == 0 and replay.path.exists():
            raise UsageError(f"A new run needs a folder of its own, got one where another run has {replay.path}.")

    def _connected(self) -> Policies:
        if self._policies is None:
            rule = f"{type(self).__name__} must be given policies by datamodule.connect(Policies(...))"
            raise RuntimeError(f"{rule}, in the setup of the module, got none.")
        return self._policies

    def _gathered(self, own: dict[str, Any]) -> dict[str, Any]:
        """The states of all processes as one."""
        return {"ranks": gathered(own)}

    def _own(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The state of this process among those of all.

        Raises:
            UsageError: a state of another number of processes.
        """
        ranks, size = state_dict["ranks"], self._trainer.world_size
        if len(ranks) != size:
            rule = "A run with rollouts must be resumed with its own number of processes"
            raise UsageError(f"{rule}, {len(ranks)}, got {size}.")
        return ranks[self._trainer.global_rank]


def _of_training(seed: int) -> int:
    if seed in EVALUATION_SEEDS or seed in (VALIDATION_SEED, TEST_SEED):
        first, last = EVALUATION_SEEDS[0], EVALUATION_SEEDS[-1]
        rule = f"seed must not be one of evaluations, {first} to {last}, {VALIDATION_SEED} and {TEST_SEED}"
        raise ValueError(f"{rule}, got {seed}.")
    return seed


def check_counts(**counts: int) -> None:
    """Raise a ValueError for a count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")


def same_task(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> None:
    """Raise a UsageError unless options of the data of a phase, and of the phase it starts from, are of one task."""
    before, now = _task(theirs), _task(ours)
    if before != now:
        raise UsageError(f"A phase must have the task of the phase it starts from, {before} in {path}, got {now}.")


def check_replay(rollouts: EnvironmentData, run: Path) -> None:
    """Raise a UsageError if the config of a run, where it has one, is of another task than the rollouts."""
    try:
        options = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]["init_args"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return
    theirs, ours = (_task(given) for given in (options, vars(rollouts)))
    if theirs != ours:
        raise UsageError(f"initial_replay must be of the task of the run, {ours}, got {theirs} in {run}.")


def _task(options: Mapping[str, Any]) -> str:
    own, env = options.get("env_options"), str(options.get("env"))
    named = f" and env_options {dict(sorted(own.items()))}" if own else ""
    return f"{env} with action repeat {options.get('action_repeat') or usual_action_repeat(env)}{named}"
