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
OUTSIDE = 0.25
"""share of the values on either side of an interquartile mean"""


def bootstrap_interval(values: Float[Tensor, " count"], num_resamples: int = 4000) -> tuple[float, float] | None:
    """95% interval of the mean, from resamples of the values (percentile bootstrap, with noise of its own).

    None for a single value, which says nothing about its spread.
    """
    numbers = values.detach().cpu().double().numpy()
    if len(numbers) < 2:
        return None
    found = stats.bootstrap(
        (numbers,), np.mean, n_resamples=num_resamples, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return found.confidence_interval.low.item(), found.confidence_interval.high.item()


def interquartile_mean_and_interval(
    seeds: Sequence[Sequence[float]], num_resamples: int = 2000
) -> tuple[float, tuple[float, float]]:
    """Mean of the middle half of all episodes, and its 95% interval over seeds and episodes; all seeds count the same.

    A resample draws seeds with replacement, and from each as many episodes as the longest seed has, with replacement
    (percentile bootstrap, with noise of its own). With few seeds such intervals are too narrow (Agarwal et al.,
    "Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021); with one they are over its episodes.

    Args:
        seeds: returns of the episodes of each seed; at least one of each.
        num_resamples: of the bootstrap.
    """
    counts, rng = np.array([len(seed) for seed in seeds]), np.random.default_rng(0)
    episodes = np.stack([np.resize(seed, counts.max()) for seed in seeds])  # the ends of short seeds are not drawn
    drawn = rng.integers(len(seeds), size=(num_resamples, len(seeds), 1))
    resamples = episodes[drawn, rng.integers(counts[drawn], size=(*drawn.shape[:2], counts.max()))]
    means = stats.trim_mean(resamples.reshape(num_resamples, -1), OUTSIDE, axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    stretched = [np.sort(seed)[np.arange(counts.max()) * len(seed) // counts.max()] for seed in seeds]
    return stats.trim_mean(np.concatenate(stretched), OUTSIDE).item(), (low, high)


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the half width of its 95% interval by Student's t (NaN for a single value)."""
    count = len(values)
    if count < 2:
        return statistics.fmean(values), math.nan
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1).item()
    return statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(count)
