"""The precision of a search's own arithmetic, whatever autocast does to the objective."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager:
    """A context in which products on a tensor's device keep the type of their factors.

    Autocast is for networks, which the objective calls. A covariance whose products lose 16 bits stops a search early.
    """
    device = like.device.type
    return torch.autocast(device, enabled=False) if _casts(device) else nullcontext()


def _casts(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
