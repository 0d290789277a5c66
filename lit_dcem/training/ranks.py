"""States of all the processes of a distributed run in one checkpoint, which rank 0 alone writes."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def gathered(state: Any) -> list[Any]:
    """The states of all ranks, in order, on every rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return [state]
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, state)
    return ranks
