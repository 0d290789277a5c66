"""Means and their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's t with 1, 2, .. degrees of freedom"""


def bootstrap_interval(values: Float[Tensor, " count"], num_resamples: int = 4000) -> tuple[float, float]:
    """95% interval of the mean, from resamples of the values (percentile bootstrap, with noise of its own)."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(len(values), (num_resamples, len(values)), generator=generator)
    low, high = torch.quantile(values.cpu()[index].mean(1), torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and how far its 95% interval by Student's t reaches either way (NaN for a single value)."""
    count = len(values)
    if count < 2:
        return statistics.fmean(values), math.nan
    return statistics.fmean(values), _t_quantile(count - 1) * statistics.stdev(values) / math.sqrt(count)


def _t_quantile(freedom: int) -> float:
    """97.5% quantile of Student's t: from the table, and beyond it by its expansion about the normal one."""
    if freedom <= len(T_QUANTILES):
        return T_QUANTILES[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
