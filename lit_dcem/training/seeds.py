"""Seeds made of several numbers."""

from __future__ import annotations

import numpy as np


def seed_of(*words: int) -> int:
    """A seed for torch's generators, in [0, 2**63), made of numbers such as (seed, rank, epoch).

    Other numbers, or the same in another order, give an unrelated seed. Use equally many numbers for one purpose: zeros
    at the end make no difference.

    Raises:
        ValueError: a number below 0.
    """
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) % 2**63
