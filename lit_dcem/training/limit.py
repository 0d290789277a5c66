"""How much memory a module may take while it is built from the config of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lit_dcem.errors import require

ROOM = 10
"""a module may allocate this many times the weights of its checkpoint while it is built"""
SMALL = 1_000_000
"""numbers that any module may allocate, in at most a thousandth as many tensors"""
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.eye)
"""functions that allocate a tensor of a given size"""


class Limit(TorchFunctionMode):
    """Refuses to allocate tensors far beyond the weights of a checkpoint, before memory is filled."""

    def __init__(self, weights: Mapping[str, Any], path: Path) -> None:
        super().__init__()
        sizes = [value.numel() for value in weights.values() if isinstance(value, Tensor)]
        self.numbers, self.tensors = ROOM * sum(sizes) + SMALL, ROOM * len(sizes) + SMALL // 1000
        self.path = path

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            self.tensors -= 1
            self.numbers -= func(*args, **{**kwargs, "device": "meta"}).numel()
            fits = min(self.numbers, self.tensors) >= 0
            require(fits, f"The config in {self.path} must fit the size of its weights", "larger parts")
        return func(*args, **kwargs)
