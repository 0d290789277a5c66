"""Episodes, and sequences of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
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
    """B sequences of L rows, float32, time first: action t led to observation and reward t (see the module).

    A named tuple, because Lightning moves and converts those, and refuses frozen dataclasses.
    """

    observations: Float[Tensor, "length batch observation"]
    actions: Float[Tensor, "length batch action"]
    """zero in the first row of an episode"""
    rewards: Float[Tensor, "length batch"]
    """zero in the first row of an episode"""
    terminated: Float[Tensor, "length batch"]
    """1 where the episode ended by itself, which only a last row can be; else 0"""
