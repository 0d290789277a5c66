"""Evaluation of a policy on whole episodes, without exploration noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lit_dcem.envs.policy import Policy
from lit_dcem.envs.vector import VectorEnv
from lit_dcem.planet.data.collector import Collector
from lit_dcem.planet.data.episode import Episode

FRAME = (240, 320)
"""height and width of a picture"""


class Evaluation(NamedTuple):
    """Episodes of an evaluation, in an order that does not depend on their lengths; the first one in full.

    A named tuple, because Lightning moves those to devices.
    """

    returns: Float[Tensor, " episodes"]
    observations: Float[Tensor, "times observation"]
    """of the first episode, T + 1 of them"""
    actions: Float[Tensor, "steps action"]
    """action t was taken at observation t"""
    rewards: Float[Tensor, " steps"]
    """reward t came with observation t + 1"""
    frames: UInt8[Tensor, "frames height width 3"]
    """of the first episode, one an observation but the last; none unless it was filmed"""
    seconds_per_decision: float
    """for all environments at once, the simulator not counted"""
    num_diverged: int = 0
    """episodes that the simulation broke down in; their returns are of the steps before"""


@torch.no_grad()
def evaluate_episodes(policy: Policy, envs: VectorEnv, num_episodes: int, film: bool = False) -> Evaluation:
    """Run the policy in fresh environments, an equal share of the episodes in each.

    Args:
        policy: acts. One made by ``with_seed`` repeats its episodes, and draws nothing from the global generator.
        envs: as they come from `make`; not stepped before.
        num_episodes: how many; where environments do not share them equally, the first ones run one more.
        film: draw the first episode.

    Raises:
        UsageError: it should draw, and there is no OpenGL.
    """
    collector, frames, num_steps = Collector(envs), list[np.ndarray](), 0
    episodes: list[list[Episode]] = [[] for _ in range(envs.num_envs)]
    if film:
        frames.append(envs.render(0, *FRAME))
    for collected in collector.run(policy, num_episodes):
        for index, episode in collected.finished:
            episodes[index].append(episode)
        if film and not episodes[0]:
            frames.append(envs.render(0, *FRAME))
        num_steps += 1
    if envs.num_diverged:
        rule = "A simulation must not break down in an evaluation, as such an episode counts as it is until then"
        rank_zero_warn(f"{rule}, got {envs.num_diverged} that did.")
    return _evaluation(episodes, frames, collector.plan_seconds / num_steps)._replace(num_diverged=envs.num_diverged)


def _evaluation(episodes: list[list[Episode]], frames: list[np.ndarray], seconds: float) -> Evaluation:
    first = episodes[0][0]
    returns = torch.stack([episode.rewards.sum() for done in episodes for episode in done])
    pictures = torch.from_numpy(np.stack(frames)) if frames else torch.zeros(0, *FRAME, 3, dtype=torch.uint8)
    return Evaluation(returns, first.observations, first.actions, first.rewards, pictures, seconds)


class EvaluationEpisodes:
    """A validation or test loader of one batch: the episodes of one evaluation, the same ones every time.

    Args:
        make_envs: as many as there are episodes.
        policy: makes the policy of an evaluation, with the same noise each time.
        filming: says whether to draw the first episode this time.
    """

    def __init__(
        self, make_envs: Callable[[], VectorEnv], policy: Callable[[], Policy], filming: Callable[[], bool]
    ) -> None:
        self.make_envs = make_envs
        self.policy = policy
        self.filming = filming

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Evaluation]:
        envs = self.make_envs()
        yield evaluate_episodes(self.policy(), envs, envs.num_envs, film=self.filming())
