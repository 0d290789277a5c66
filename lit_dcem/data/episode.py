"""Episodes, and sequences of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


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
    """whether it ended by itself; else a limit of time, or physics that diverged after the last step, cut it off"""


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
    """1 in the last row of an episode that ended by itself; else 0"""
    first: Bool[Tensor, "length batch"]
    """in the first row of an episode: nothing led here"""
