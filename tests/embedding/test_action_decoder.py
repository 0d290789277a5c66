"""The decoder's shapes, bounds, first weights and errors; and what figure 7 shows of it."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lit_dcem.embedding.decoder import ActionDecoder


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def linears(decoder: ActionDecoder) -> list[nn.Linear]:
    return [layer for layer in decoder.layers if isinstance(layer, nn.Linear)]


def drawn(draws: int = 100, **options) -> torch.Tensor:
    """Outputs in [0, 1] of an untrained bias-free decoder, as in figure 7."""
    decoder = ActionDecoder(2, 20, **{"bias": False, "lower": 0.0, "upper": 1.0, **options})
    return decoder(torch.randn(draws, 2)).detach().squeeze(-1)


@pytest.mark.parametrize("batch", [(), (7,), (3, 7), (2, 3, 7)])
def test_shapes(batch):
    decoder = ActionDecoder(latent_dim=3, horizon=5, action_dim=2, hidden_dim=8)
    latent = torch.randn(*batch, 3)
    actions = decoder(latent)
    assert actions.shape == (*batch, 5, 2)
    assert_close(actions.flatten(0, -3) if batch else actions, decoder(latent.flatten(0, -2) if batch else latent))


def test_layers_are_the_papers():
    decoder = ActionDecoder(latent_dim=2, horizon=20)
    sizes = [(layer.in_features, layer.out_features) for layer in linears(decoder)]
    assert sizes == [(2, 256), (256, 256), (256, 256), (256, 20)]
    assert sum(isinstance(layer, nn.ELU) for layer in decoder.layers) == 3


@pytest.mark.parametrize(("num_layers", "hidden_dim"), [(1, 8), (5, 16)])
def test_depth_and_width(num_layers, hidden_dim):
    layers = linears(ActionDecoder(2, 4, hidden_dim=hidden_dim, num_layers=num_layers))
    assert len(layers) == num_layers + 1
    assert all(layer.out_features == hidden_dim for layer in layers[:-1])


@pytest.mark.parametrize(("name", "kind"), [("elu", nn.ELU), ("relu", nn.ReLU), ("tanh", nn.Tanh)])
def test_activations(name, kind):
    layers = list(ActionDecoder(2, 4, hidden_dim=8, activation=name).layers)
    assert all(isinstance(layer, kind) for layer in layers[1::2])
    assert all(isinstance(layer, nn.Linear) for layer in layers[::2])


def test_actions_keep_to_their_bounds_and_reach_them():
    decoder = ActionDecoder(2, 3, 2, hidden_dim=16, init_scale=30.0, lower=[-100.0, 0.1], upper=[100.0, 0.7])
    actions = decoder(10 * torch.randn(1000, 2))
    lower, upper = torch.tensor([-100.0, 0.1]), torch.tensor([100.0, 0.7])
    assert (actions >= lower).all() and (actions <= upper).all()
    assert torch.equal(actions.amin((0, 1)), lower) and torch.equal(actions.amax((0, 1)), upper)


def test_one_bound_serves_all_numbers_of_an_action():
    several = ActionDecoder(2, 3, 2, lower=[-2.0, -2.0], upper=[4.0, 4.0])
    one = ActionDecoder(2, 3, 2, lower=-2, upper=4)
    one.load_state_dict(several.state_dict())
    latent = torch.randn(9, 2)
    assert torch.equal(one(latent), several(latent))


def test_bounds_are_no_weights_and_follow_the_module():
    decoder = ActionDecoder(2, 3, hidden_dim=8).double()
    assert not any("lower" in name or "upper" in name for name in decoder.state_dict())
    assert decoder(torch.randn(4, 2, dtype=torch.float64)).dtype == torch.float64


def test_autocast_leaves_actions_in_full_precision():
    decoder, latent = ActionDecoder(2, 3, lower=-100.0, upper=100.0), torch.randn(9, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actions = decoder(latent)
    assert actions.dtype == torch.float32
    assert_close(actions, decoder(latent), rtol=0, atol=2.0)


@pytest.mark.parametrize("scale", [0.5, 1.0, 6.0])
def test_first_weights_have_the_papers_spread_times_the_scale(scale):
    decoder = ActionDecoder(64, 50, hidden_dim=200, init_scale=scale)
    for layer in linears(decoder):
        expected = scale * 2 / math.sqrt(layer.in_features + layer.out_features)
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert layer.weight.mean().abs() < 0.05 * expected
        assert not layer.bias.any()


def test_without_biases_the_origin_decodes_to_the_middle():
    decoder = ActionDecoder(2, 4, bias=False, init_scale=6.0, lower=-1.0, upper=3.0)
    assert all(layer.bias is None for layer in linears(decoder))
    assert_close(decoder(torch.zeros(2)), torch.ones(4, 1))


@pytest.mark.parametrize("name", ["elu", "relu", "tanh"])
def test_outputs_spread_as_the_scale_grows(name):
    spread = [drawn(activation=name, init_scale=scale).std().item() for scale in (0.1, 1.0, 2.0, 4.0)]
    assert spread == sorted(spread)
    assert spread[0] < 0.01 < 0.3 < spread[-1]


def test_relu_is_biased_where_elu_and_tanh_are_even():
    """Figure 7: outputs of a ReLU decoder sit on one side for most z. (ELU leans the same way as the scale grows.)"""

    def imbalance(name):
        sides = [(drawn(activation=name) > 0.5).float().mean(0) for _ in range(5)]
        return (torch.stack(sides) - 0.5).abs().mean()

    assert imbalance("relu") > 3 * max(imbalance("elu"), imbalance("tanh"))


@pytest.mark.parametrize("name", ["elu", "relu", "tanh"])
def test_gradients_reach_the_latent_and_every_weight(name):
    decoder = ActionDecoder(2, 4, 2, hidden_dim=8, activation=name)
    latent = torch.randn(16, 2, requires_grad=True)
    decoder(latent).square().sum().backward()
    for tensor in (latent, *decoder.parameters()):
        assert tensor.grad is not None and tensor.grad.any()


def test_gradients_match_finite_differences():
    decoder = ActionDecoder(2, 3, 2, hidden_dim=4, lower=[-1.0, 0.0], upper=2.0).double()
    latent = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder, latent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"action_dim": -1}, "action_dim must be at least 1, got -1"),
        ({"hidden_dim": 0}, "hidden_dim must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"activation": "gelu"}, "activation must be one of elu, relu, tanh, got gelu"),
        ({"init_scale": 0.0}, r"init_scale must be positive and finite, got 0\.0"),
        ({"init_scale": math.nan}, "init_scale must be positive and finite, got nan"),
        ({"lower": 1.0, "upper": 1.0}, r"lower must be below upper and both finite, got 1\.0 and 1\.0"),
        ({"lower": -math.inf}, r"lower must be below upper and both finite, got -inf and 1\.0"),
        ({"upper": math.nan}, r"lower must be below upper and both finite, got -1\.0 and nan"),
        ({"upper": [1.0] * 3}, r"upper must be one number or one for each of 2, got \[1\.0, 1\.0, 1\.0\]"),
    ],
)
def test_what_cannot_be_raises_one_sentence(options, message):
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        ActionDecoder(**{"latent_dim": 2, "horizon": 4, "action_dim": 2, **options})


def test_a_condition_counts_as_if_it_were_part_of_z():
    decoder = ActionDecoder(2, 3, 2, hidden_dim=4, condition_dim=5)
    latent, condition = torch.randn(6, 7, 2), torch.randn(6, 1, 5)
    together = torch.cat([latent, condition.expand(6, 7, 5)], -1)
    weight = torch.cat([decoder.layers[0].weight, decoder.condition.weight], 1)
    hidden = nn.functional.linear(together, weight, decoder.layers[0].bias)
    expected = decoder.squash(decoder.layers[1:](hidden).unflatten(-1, (3, 2)))
    assert_close(decoder(latent, condition), expected)


@pytest.mark.parametrize(("condition_dim", "given"), [(0, torch.zeros(4)), (4, None), (4, torch.zeros(3))])
def test_another_condition_than_the_decoders_is_refused(condition_dim, given):
    decoder = ActionDecoder(2, 3, condition_dim=condition_dim)
    with pytest.raises(ValueError, match=f"condition must have the {condition_dim} numbers of condition_dim, got"):
        decoder(torch.zeros(2), given)


def test_a_plan_that_is_a_step_older_lies_in_the_space_again():
    """For any plan, one at the bounds of its actions too, and whatever the state is now."""
    decoder = ActionDecoder(3, 6, 2, hidden_dim=8, condition_dim=4, blends_rest=True, lower=[-1.0, 0.0], upper=3.0)
    plan = decoder(torch.randn(5, 3), torch.randn(5, 4)).detach()
    plan[0] = torch.tensor([-1.0, 3.0])
    rest = torch.cat([plan[:, 1:], plan[:, -1:]], 1)
    anywhere = torch.cat([torch.randn(5, 2), torch.ones(5, 1)], 1)
    assert_close(decoder(anywhere, torch.randn(5, 4), rest), rest, atol=5e-4, rtol=0)


def test_the_last_number_of_z_is_the_share_of_the_rest():
    decoder, condition = ActionDecoder(2, 6, hidden_dim=8, condition_dim=4, blends_rest=True), torch.randn(4)
    rest = 2 * torch.rand(6, 1) - 1
    alone = decoder(torch.tensor([0.5, 0.0]), condition)
    assert_close(decoder(torch.tensor([0.5, -0.7]), condition, rest), alone)
    assert_close(decoder(torch.tensor([0.5, 0.9]), condition, torch.full((6, 1), torch.nan)), alone)
    half = decoder.squash((decoder.unsquash(alone) + decoder.unsquash(rest)) / 2)
    assert_close(decoder(torch.tensor([0.5, 0.5]), condition, rest), half)


def test_a_mixture_has_gradients_to_all_that_it_is_made_of():
    decoder = ActionDecoder(3, 4, 2, hidden_dim=4, condition_dim=2, blends_rest=True).double()
    inputs = [torch.tensor([0.2, -0.4, 0.6]), torch.randn(2), 2 * torch.rand(4, 2) - 1]
    given = [each.double().requires_grad_() for each in inputs]
    assert torch.autograd.gradcheck(decoder, given)


def test_gradients_are_finite_where_there_is_no_rest():
    decoder, latent = ActionDecoder(2, 4, hidden_dim=4, blends_rest=True), torch.tensor([0.3, 0.6], requires_grad=True)
    decoder(latent, None, torch.full((4, 1), torch.nan)).sum().backward()
    assert latent.grad.isfinite().all() and latent.grad[1] == 0
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


@pytest.mark.parametrize("options", [{"condition_dim": -1}, {"latent_dim": 1, "blends_rest": True}])
def test_conditions_and_mixtures_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="condition_dim must be at least 0, and latent_dim at least 2"):
        ActionDecoder(**{"latent_dim": 2, "horizon": 4, **options})
