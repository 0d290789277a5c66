"""An endless stream of random batches that resumes exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from lit_dcem.solvers.options import whole_number
from lit_dcem.training.seeds import seed_of

Draw = Callable[[torch.Generator], Any]
"""``draw(generator) -> batch``"""


class Stream:
    """Random batches, ``length`` an epoch; batch i depends on (seed, rank, i) alone, not on what was drawn before.

    A train loader for Lightning. A resumed run that starts at the position of its checkpoint sees the batches that an
    uninterrupted run would have seen, and each rank sees different ones. The datamodule must keep the position, because
    Lightning drops the state of a loader when a checkpoint is written between two epochs. The stream has a length
    because Lightning would otherwise read one batch ahead. Lightning decides where an epoch ends. If
    ``limit_train_batches`` ends one early, the next epoch continues with the following batch.

    Args:
        draw: makes a batch with a generator.
        length: batches in an epoch.
        seed: of the stream.
        rank: of the process.
        repeats: how many times in a row each batch is returned.
        position: number of batches returned before.
    """

    def __init__(self, draw: Draw, length: int, seed: int, rank: int = 0, repeats: int = 1, position: int = 0) -> None:
        self.draw = draw
        self.length = length
        self.seed = seed
        self.rank = rank
        self.repeats = repeats
        self.position = position

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.length):
            index = self.position // self.repeats
            self.position += 1
            yield self.draw(self._generator(index))

    def _generator(self, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, self.rank, index))

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def checked_seed(seed: int | None) -> int:
    """The seed of a datamodule; torch's own if none is given.

    Raises:
        ValueError: one that torch's generators do not take.
    """
    if seed is None:
        return torch.initial_seed() % 2**63
    whole = whole_number("seed", seed)
    if not 0 <= whole < 2**63:
        raise ValueError(f"seed must be at least 0 and below 2**63, got {seed}.")
    return whole
