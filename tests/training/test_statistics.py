"""Interquartile means, and their intervals over seeds and episodes."""

import numpy as np
import pytest

from lit_dcem.training.statistics import interquartile_mean_and_interval


def test_it_is_the_mean_of_the_middle_half_of_all_episodes():
    mean, (low, high) = interquartile_mean_and_interval([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 700.0]])
    assert mean == 3.5 and low < mean < high
    assert interquartile_mean_and_interval([[2.0]]) == (2.0, (2.0, 2.0))


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    seeds = [rng.normal(shift, 1.0, 50).tolist() for shift in (0, 10, 20)]
    _, (low, high) = interquartile_mean_and_interval([[each for seed in seeds for each in seed]])
    _, (lowest, highest) = interquartile_mean_and_interval(seeds)
    assert lowest < low and high < highest
    assert (lowest, highest) == interquartile_mean_and_interval(seeds)[1]  # the same draws every time


def test_seeds_may_have_different_numbers_of_episodes():
    seeds = [[1.0], [1.0] * 40, [1.0, 2.0, 3.0]]
    mean, (low, high) = interquartile_mean_and_interval(seeds)
    assert mean == low == 1.0 and 1 < high <= 3  # no draw but of what each has


def test_every_seed_counts_the_same_however_many_episodes_it_has():
    mean, (low, high) = interquartile_mean_and_interval([[0.0] * 1000, *([[100.0] * 10] * 9)])
    assert mean == 100.0 and low <= mean <= high


def test_the_interval_of_one_seed_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [interquartile_mean_and_interval([rng.normal(size=60).tolist()])[1] for _ in range(400)]
    covered = np.mean([low < 0 < high for low, high in found])
    assert covered == pytest.approx(0.95, abs=0.03)
