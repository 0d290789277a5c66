"""Streams of batches: the same for the same position, different across ranks, seeds and positions."""

import pytest
import torch

from lit_dcem.regression.data import RegressionData, target
from lit_dcem.training.stream import Stream


def stream(**changes):
    return Stream(**{"draw": lambda g: torch.rand(3, generator=g), "length": 4, "seed": 0, **changes})


def test_epochs_have_the_length_and_go_on():
    batches = stream()
    first, second = list(batches), list(batches)
    assert len(first) == len(second) == len(batches) == 4
    assert not any(torch.equal(a, b) for a in first for b in second)


def test_after_a_shorter_epoch_comes_a_whole_one():
    """Lightning ends epochs early with ``limit_train_batches``."""
    batches, whole = stream(), stream()
    expected = [*whole, *whole]
    next(iter(batches))
    torch.testing.assert_close(list(batches), expected[1:5], rtol=0, atol=0)


@pytest.mark.parametrize("seen", [1, 4, 6])
def test_resumes_where_it_stood(seen):
    whole = stream()
    expected = [*whole, *whole, *whole]
    interrupted = stream()
    taken = []
    while len(taken) < seen:
        for batch in interrupted:
            taken.append(batch)
            if len(taken) == seen:
                break
    resumed = stream()
    resumed.load_state_dict(interrupted.state_dict())
    rest = list(resumed)
    torch.testing.assert_close(rest, expected[seen : seen + 4], rtol=0, atol=0)


def test_ranks_and_seeds_differ():
    batches = [next(iter(stream(rank=rank, seed=seed))) for rank in range(3) for seed in range(3)]
    assert len({tuple(batch.tolist()) for batch in batches}) == 9


def test_repeats_give_each_batch_so_often():
    a, b, c, d = stream(repeats=3)
    assert torch.equal(a, b)
    assert torch.equal(b, c)
    assert not torch.equal(c, d)


def test_regression_batches_are_distinct_training_points():
    data = RegressionData(batch_size=16, seed=1)
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == y.shape == (16, 1)
    assert len(x.unique()) == 16
    assert torch.isin(x, data.train_points).all()
    torch.testing.assert_close(y, target(x))


def test_validation_holds_all_points_and_test_only_new_ones():
    data = RegressionData()
    ((x, _),) = data.val_dataloader()
    ((new, _),) = data.test_dataloader()
    assert len(x) == 100
    assert len(new) == 1000
    assert not torch.isin(new, x).any()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 101}, {"updates_per_batch": 0}])
def test_impossible_sizes_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        RegressionData(**options)
