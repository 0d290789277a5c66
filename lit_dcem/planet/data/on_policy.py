"""On-policy rollouts for PPO: whole episodes of the current policy, streamed through Lightning in batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.planet.data.environment_data import EnvironmentData, check_counts
from lit_dcem.planet.data.episode import Sequences
from lit_dcem.planet.data.trajectories import Collection, collect
from lit_dcem.planet.data.transitions import Transitions
from lit_dcem.training.seeds import seed_of
from lit_dcem.training.stream import Stream


class OnPolicyBatch(NamedTuple):
    """Some steps of all environments, and the progress of the rollouts of this process."""

    share: Transitions
    """the batch's share of the collection, each step of all E environments; the value learns from all of it"""
    num_steps: int | None
    """how many steps of time at its beginning the policy learns from; None for all"""
    returns: Float[Tensor, " finished"]
    """of the episodes collected since the last batch"""
    ppo_steps: int
    """collections so far, this one included"""
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
    sequences: Sequences | None = None
    """of a replay, if there is one (`JointRollouts`)"""

    @property
    def steps(self) -> Transitions:
        """What the policy learns from."""
        return self.share.at(slice(self.num_steps))


class OnPolicyRollouts(EnvironmentData):
    """Collects episodes of the current policy and serves them in batches, one epoch for each collection.

    The module calls ``datamodule.connect(Policies(acting, exploring=..., prepare=...))`` in its ``setup``.
    An epoch is one step of PPO: ``num_episodes`` episodes, then ``passes`` passes over them in ``num_batches`` batches
    each. A batch has steps of time drawn at random, each with all environments, as the policy saw them. So an update
    computes exactly what the policy computed, to the last bit.

    Args:
        env: a task of the dm_control suite (``cheetah-run``) or the id of a Gymnasium environment.
        action_repeat: simulator steps for each action; by default the usual number for the environment
            (`usual_action_repeat`).
        num_envs: environments that are stepped together.
        num_episodes: collected an epoch in each process (paper: 10).
        passes: over the steps of a collection (paper: 1, 2 or 4).
        num_batches: of a pass.
        batch_steps: steps of time in a batch that the policy learns from, whose plans are searched for again; the value
            learns from all. If not given, both do.
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
        action_repeat: int | None = None,
        num_envs: int = 10,
        num_episodes: int = 10,
        passes: int = 1,
        num_batches: int = 10,
        batch_steps: int | None = None,
        evaluation_episodes: int = 10,
        seed: int | None = None,
        time_limit: int | None = None,
        env_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env, action_repeat, evaluation_episodes, seed, time_limit, env_options)
        check_counts(num_envs=num_envs, num_episodes=num_episodes, passes=passes, num_batches=num_batches)
        check_counts(batch_steps=1 if batch_steps is None else batch_steps)
        self.num_envs, self.num_episodes = num_envs, num_episodes
        self.passes, self.num_batches, self.batch_steps = passes, num_batches, batch_steps
        self._steps: Transitions | None = None
        self._updates, self._agent_steps, self._episodes, self._collection = 0, 0, 0, 0

    @property
    def ppo_steps(self) -> int:
        """Number of collections that at least one update has learned from."""
        return -(-self._updates // (self.passes * self.num_batches))

    @property
    def collection(self) -> int:
        """Number, from 0, of the collection that is made or learned from; with ``limit_train_batches`` no epoch's."""
        return self._collection

    @property
    def begins(self) -> bool:
        """Whether the last batch was the first of its collection."""
        return (self._updates - 1) % (self.passes * self.num_batches) == 0

    def setup(self, stage: str) -> None:
        if stage == "fit" and self._envs is None:
            self._envs = self.make_envs(self.num_envs, self.seed, self._trainer.global_rank)

    def train_dataloader(self) -> Stream:
        rank = self._trainer.global_rank
        return Stream(self._draw, self.passes * self.num_batches, self.seed, rank, position=self._updates)

    def state_dict(self) -> dict[str, Any]:
        return self._gathered(self._state())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._envs is not None:
            self._load(self._own(state_dict))

    def _state(self) -> dict[str, Any]:
        """Of this process, in plain tensors. Between two steps of PPO, the last collection is no longer needed."""
        assert self._envs is not None
        learned = self._updates % (self.passes * self.num_batches) == 0
        steps = {} if learned or self._steps is None else self._steps.state_dict()
        own = {"seed": self.seed, "counts": [self._updates, self._agent_steps, self._episodes]}
        return {**own, "envs": self._envs.state_dict(), "steps": steps}

    def _load(self, state: dict[str, Any]) -> None:
        assert self._envs is not None
        self.seed, self._steps = state["seed"], Transitions(**state["steps"]) if state["steps"] else None
        self._updates, self._agent_steps, self._episodes = state["counts"]
        self._collection = max(0, self._updates - 1) // (self.passes * self.num_batches)
        self._envs.load_state_dict(state["envs"])

    def _draw(self, generator: torch.Generator) -> OnPolicyBatch:
        """The next batch; the first one of an epoch of new episodes."""
        assert self._envs is not None
        self._collection, index = divmod(self._updates, self.passes * self.num_batches)
        collected = self._collect() if index == 0 else None
        share = self._share(index)
        self._updates += 1
        returns = [episode.rewards.sum() for episode in collected.episodes] if collected else []
        return OnPolicyBatch(
            share,
            self.batch_steps,
            torch.stack(returns) if returns else torch.zeros(0),
            self.ppo_steps,
            self._envs.simulator_steps,
            self._agent_steps,
            self._episodes,
            self._envs.num_diverged,
            collected.plan_seconds if collected else 0.0,
            collected.environment_seconds if collected else 0.0,
        )

    def _collect(self) -> Collection:
        """New steps to learn from."""
        policies, envs = self._connected(), self._envs
        if policies.exploring is None or policies.prepare is None or envs is None:
            rule = f"{type(self).__name__} must be given the policies exploring and prepare by datamodule.connect"
            raise RuntimeError(f"{rule}, in the setup of the module, got {policies}.")
        collected = collect(policies.exploring.with_seed(self._seed_of(0)), envs, self.num_episodes)
        self._steps = policies.prepare(collected.trajectories)
        self._agent_steps += int(collected.trajectories.counts.sum())
        self._episodes += len(collected.episodes)
        self.terminates |= any(episode.terminated for episode in collected.episodes)
        return collected

    def _share(self, index: int) -> Transitions:
        """The share of batch ``index`` of an epoch; the passes share the steps out in different orders."""
        assert self._steps is not None
        number, part = divmod(index, self.num_batches)
        length = self._steps.num_times
        order = torch.randperm(length, generator=torch.Generator().manual_seed(self._seed_of(1 + number)))
        size = max(-(-length // self.num_batches), self.batch_steps or 0)
        # Modulo: a batch may want more than there is left, where episodes were short.
        return self._steps.at(order[(torch.arange(size) + part * size) % length])

    def _seed_of(self, purpose: int) -> int:
        """Of one collection and what it is for, on this process."""
        return seed_of(self.seed, self._trainer.global_rank, self._collection, purpose)
