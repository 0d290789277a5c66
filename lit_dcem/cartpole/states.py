"""Initial states of the cartpole: x, dx, cos th, sin th, w (units and dynamics: `lit_dcem.cartpole.dynamics`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_dcem.training.stream import Stream, checked_seed

RANGES = (0.5, 0.5, math.pi, 1.0)
"""of x [m], dx [m/s], th [rad] and w [rad/s], either side of 0"""
VALIDATION_SEED = 0
TEST_SEED = 1
BATCH = 100
"""states of a validation or test batch"""


def initial_states(
    count: int, generator: torch.Generator, ranges: Sequence[float] = RANGES
) -> Float[Tensor, "count 5"]:
    """States uniform in x, dx, th and w, drawn in this order."""
    draws = (torch.rand(count, generator=generator, dtype=torch.float32) for _ in ranges)
    x, dx, th, w = (draw * 2 * limit - limit for draw, limit in zip(draws, ranges, strict=True))
    return torch.stack([x, dx, th.cos(), th.sin(), w], -1)


def validation_states() -> Float[Tensor, "100 5"]:
    """The hundred validation states, as many as in the paper."""
    return initial_states(100, torch.Generator().manual_seed(VALIDATION_SEED))


def held_out_states() -> Float[Tensor, "1000 5"]:
    """A thousand test states, used in neither training nor model selection."""
    return initial_states(1000, torch.Generator().manual_seed(TEST_SEED))


class CartpoleStates(pl.LightningDataModule):
    """Streams fresh initial states ``[batch_size, 5]``; validates on a fixed 100, and tests on 1,000 more.

    Args:
        batch_size: states per update (paper: 1).
        updates_per_epoch: length of an epoch, after which Lightning validates (paper: 100).
        seed: of the stream of states; by default torch's initial seed.
        ranges: half-widths around 0 of x [m], dx [m/s], th [rad] and w [rad/s] in training. Ranges wider than the
            paper's cover the states that a closed loop visits; validation and test always use the paper's.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        batch_size: int = 16,
        updates_per_epoch: int = 100,
        seed: int | None = None,
        ranges: Sequence[float] = RANGES,
    ) -> None:
        super().__init__()
        if len(ranges) != len(RANGES) or not all(0 <= limit < math.inf for limit in ranges):
            raise ValueError(f"ranges must be four finite numbers of at least 0, got {list(ranges)}.")
        if min(batch_size, updates_per_epoch) < 1:
            got = f"{batch_size} and {updates_per_epoch}"
            raise ValueError(f"batch_size and updates_per_epoch must be at least 1, got {got}.")
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.seed = checked_seed(seed)
        self.ranges = tuple(ranges)
        self._updates = 0

    def train_dataloader(self) -> Stream:
        rank = self.trainer.global_rank if self.trainer else 0
        return Stream(self._draw, self.updates_per_epoch, self.seed, rank, position=self._updates)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return _in_batches(validation_states())

    def test_dataloader(self) -> DataLoader[Tensor]:
        return _in_batches(held_out_states())

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.seed, self._updates = state_dict["seed"], state_dict["updates"]

    def _draw(self, generator: torch.Generator) -> Tensor:
        self._updates += 1
        return initial_states(self.batch_size, generator, self.ranges)


def _in_batches(states: Tensor) -> DataLoader[Tensor]:
    # A tensor has a length and rows, all that a loader needs of a dataset. A loader with its own generator does not
    # draw from the global one, which training uses.
    return DataLoader(cast("Dataset[Tensor]", states), batch_size=BATCH, generator=torch.Generator())
