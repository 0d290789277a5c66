"""Random generators in checkpoints, for runs that resume exactly."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lit_dcem.training.ranks import gathered


class RandomStates(pl.Callback):
    """Saves the global generators of Python, NumPy and torch of every rank, and restores them when training resumes.

    They are restored at the last moment before the first batch, as building the model and the sanity check draw from
    them. A checkpoint of another number of ranks leaves them as they are.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"ranks": gathered(_collect())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict["ranks"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._restored is not None and len(self._restored) == trainer.world_size:
            _restore(self._restored[trainer.global_rank])
        self._restored = None


def _collect() -> dict[str, Any]:
    """The states as tensors and plain containers, which load with ``weights_only=True``."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore(states: dict[str, Any]) -> None:
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if isinstance(states["cuda"], Tensor) and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
