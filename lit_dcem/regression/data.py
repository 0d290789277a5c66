"""The regression task of section 5.1: y = x sin x on [0, 2 pi]."""

from __future__ import annotations

import math

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lit_dcem.training.stream import Stream, checked_seed


def target(x: Tensor) -> Tensor:
    """``x sin x``, elementwise."""
    return x * x.sin()


class RegressionData(pl.LightningDataModule):
    """Streams random training points. Validates on all training points, and tests on ten times as many in between.

    Args:
        num_points: training points, evenly spaced over [0, 2 pi] (paper: 100).
        batch_size: points per update (paper: 1), drawn without replacement.
        updates_per_batch: consecutive updates on the same points (paper: 3).
        updates_per_epoch: length of an epoch, after which Lightning validates (paper: 100).
        seed: of the stream of points; by default torch's initial seed.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        num_points: int = 100,
        batch_size: int = 100,
        updates_per_batch: int = 1,
        updates_per_epoch: int = 100,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= batch_size <= num_points:
            raise ValueError(f"batch_size must be between 1 and num_points, got {batch_size} and {num_points}.")
        if min(updates_per_batch, updates_per_epoch) < 1:
            got = f"{updates_per_batch} and {updates_per_epoch}"
            raise ValueError(f"updates_per_batch and updates_per_epoch must be at least 1, got {got}.")
        self.batch_size = batch_size
        self.updates_per_batch = updates_per_batch
        self.updates_per_epoch = updates_per_epoch
        self.seed = checked_seed(seed)
        self._updates = 0
        self.train_points = torch.linspace(0, 2 * math.pi, num_points).unsqueeze(1)

    def train_dataloader(self) -> Stream:
        rank = self.trainer.global_rank if self.trainer else 0
        return Stream(self._draw, self.updates_per_epoch, self.seed, rank, self.updates_per_batch, self._updates)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return _all_at_once(self.train_points)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        cells = 10 * len(self.train_points)
        return _all_at_once((torch.arange(cells).unsqueeze(1) + 0.5) * (2 * math.pi / cells))

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.seed, self._updates = state_dict["seed"], state_dict["updates"]

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        self._updates += 1
        index = torch.randperm(len(self.train_points), generator=generator)[: self.batch_size]
        x = self.train_points[index]
        return x, target(x)


def _all_at_once(x: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    # A loader with its own generator does not draw from the global one, which training uses.
    return DataLoader(TensorDataset(x, target(x)), batch_size=len(x), generator=torch.Generator())
