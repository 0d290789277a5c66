"""Episodes, and sequences of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Episode:
    """A finished episode of T steps, T at least 1."""

    observations: Float[Tensor, "times observation"]
    """T + 1 of them, from the reset to the last step's"""
    actions: Float[Tensor, "steps action"]
    """action t was taken at observation t and led to observation t + 1"""
    rewards: Float[Tensor, " steps"]
    """reward t came with observation t + 1"""
    terminated: bool
    """whether the task was over; if not, a time limit or diverging physics cut the episode off after the last step"""


class Sequences(NamedTuple):
    """B sequences of L rows, time first, float32 but for ``first``: action t led to observation and reward t.

    They may run across the ends of episodes. A named tuple, because Lightning moves and converts those, and refuses
    frozen dataclasses.
    """

    observations: Float[Tensor, "length batch observation"]
    actions: Float[Tensor, "length batch action"]
    """zero in the first row of an episode"""
    rewards: Float[Tensor, "length batch"]
    """zero in the first row of an episode"""
    terminated: Float[Tensor, "length batch"]
    """1 in the last row of an episode that terminated, 0 elsewhere"""
    first: Bool[Tensor, "length batch"]
    """in the first row of an episode: nothing led here"""
    episode: Int[Tensor, "length batch"]
    """number of the episode in its replay"""


def side_by_side(episodes: Sequence[Episode]) -> Sequences:
    """Whole episodes, one in each column, numbered from 0; the shorter ones are padded with zeros marked ``first``."""
    ends = torch.tensor([len(episode.actions) for episode in episodes])
    times = torch.arange(int(ends.max()) + 1).unsqueeze(1)
    terminated = torch.tensor([episode.terminated for episode in episodes]) & (times == ends)
    return Sequences(
        pad_sequence([episode.observations for episode in episodes]),
        pad_sequence([F.pad(episode.actions, (0, 0, 1, 0)) for episode in episodes]),
        pad_sequence([F.pad(episode.rewards, (1, 0)) for episode in episodes]),
        terminated.float(),
        (times == 0) | (times > ends),
        torch.arange(len(episodes)).expand_as(terminated).contiguous(),
    )
