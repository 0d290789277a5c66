"""Observations in units of their own spread."""

import torch

from lit_dcem.planet.model.observation_scale import ObservationScale


def test_as_it_comes_it_changes_nothing():
    observations = torch.randn(4, 3)
    assert torch.equal(ObservationScale(3)(observations), observations)


def test_fitted_it_takes_mean_and_spread_away_and_gives_them_back():
    observations = torch.randn(50, 20, 3) * torch.tensor([1.0, 100.0, 0.1]) + torch.tensor([5.0, -3.0, 0.0])
    scale = ObservationScale(3)
    scale.fit(observations)
    scaled = scale(observations)
    torch.testing.assert_close(scaled.flatten(0, 1).mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.flatten(0, 1).std(0), torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(scale.inverse(scaled), observations, atol=1e-4, rtol=1e-4)


def test_numbers_that_do_not_vary_keep_their_unit():
    """As a sensor that has touched nothing yet: a thousandfold touch would be all that the likelihood sees."""
    scale = ObservationScale(2)
    scale.fit(torch.full((5, 4, 2), 7.0))
    torch.testing.assert_close(scale(torch.tensor([[7.0, 8.0]])), torch.tensor([[0.0, 1.0]]))


def test_a_checkpoint_holds_it():
    scale, other = ObservationScale(2), ObservationScale(2)
    scale.fit(torch.randn(9, 9, 2))
    other.load_state_dict(scale.state_dict())
    assert torch.equal(other.mean, scale.mean) and torch.equal(other.std, scale.std)
