"""Means and their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats
from torch import Tensor

CONFIDENCE = 0.95


def bootstrap_interval(values: Float[Tensor, " count"], num_resamples: int = 4000) -> tuple[float, float]:
    """95% interval of the mean, from resamples of the values (percentile bootstrap, with noise of its own)."""
    numbers = values.detach().cpu().double().numpy()
    if len(numbers) < 2:
        return numbers[0].item(), numbers[0].item()
    found = stats.bootstrap(
        (numbers,), np.mean, n_resamples=num_resamples, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return found.confidence_interval.low.item(), found.confidence_interval.high.item()


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the half width of its 95% interval by Student's t (NaN for a single value)."""
    count = len(values)
    if count < 2:
        return statistics.fmean(values), math.nan
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1).item()
    return statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(count)
