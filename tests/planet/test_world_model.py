"""RSSM and world model: what must hold whatever the weights, gradients against finite differences, and learning."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl

from lit_dcem.planet.model.belief import Belief, Gaussian, kl_divergence
from lit_dcem.planet.model.rssm import RSSM
from lit_dcem.planet.model.world_model import WorldModel, WorldModelLoss

TINY = {"deter_dim": 5, "stoch_dim": 3, "hidden_dim": 6}
BATCH, STEPS, OBSERVATION, ACTION = 4, 6, 3, 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(**options) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(OBSERVATION, ACTION, hidden_dim=6, rssm=TINY, **options).double()


def batch(steps: int = STEPS) -> dict[str, torch.Tensor]:
    sizes = {"observations": [OBSERVATION], "actions": [ACTION], "rewards": []}
    draw = generator(1)
    return {n: torch.randn([steps, BATCH, *s], dtype=torch.float64, generator=draw) for n, s in sizes.items()}


def loss_of(model: WorldModel, data: dict[str, torch.Tensor], seed: int = 0, **more: torch.Tensor) -> WorldModelLoss:
    torch.manual_seed(seed)
    return model.loss(**data, **more)


def fix_noise(model: WorldModel, noise: torch.Tensor) -> None:
    """Let every posterior be drawn with the given noise."""
    model.rssm.draw_noise = lambda actions, generator=None: noise[: len(actions)]


def some_belief(rssm: RSSM, rows: int = BATCH) -> Belief:
    return Belief(*(torch.randn(z.shape, dtype=z.dtype, generator=generator(2)).tanh() for z in rssm.initial(rows)))


def oracle(p: Gaussian, q: Gaussian) -> torch.Tensor:
    return kl.kl_divergence(Normal(p.mean, p.std), Normal(q.mean, q.std)).sum(-1)


def gradients(model: WorldModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: grad for name, grad in zip(parameters, found, strict=True) if grad is not None}


def test_kl_of_equals_is_zero_and_of_others_that_of_torch():
    means, stds = torch.randn(2, 7, 3, generator=generator()), torch.rand(2, 7, 3, generator=generator()) + 0.1
    p, q = Gaussian(means[0], stds[0]), Gaussian(means[1], stds[1])
    assert torch.equal(kl_divergence(p, p), torch.zeros(7))
    torch.testing.assert_close(kl_divergence(p, q), oracle(p, q))
    half = Gaussian(p.mean.bfloat16(), p.std.bfloat16())
    assert kl_divergence(half, q).dtype == torch.float32


@pytest.mark.parametrize("input_layers", [0, 1, 2])
def test_imagine_walks_the_priors_of_observe(input_layers):
    torch.manual_seed(0)
    rssm = RSSM(OBSERVATION, ACTION, **TINY, input_layers=input_layers).double()
    belief, data = some_belief(rssm), batch()
    noise = rssm.draw_noise(data["actions"], generator(3))
    imagined = rssm.imagine(belief, data["actions"], noise=noise)
    means = rssm.imagine(belief, data["actions"][:1], sample=False)
    for t, action in enumerate(data["actions"]):
        posterior, prior = rssm.observe(belief, action, data["observations"][t], noise=noise[t])
        deter, predicted = rssm.predict(belief, action)
        belief = Belief(posterior.belief.deter, prior.sample(noise[t]))
        torch.testing.assert_close((deter, predicted), (belief.deter, prior))
        torch.testing.assert_close(Belief(imagined.deter[t], imagined.stoch[t]), belief)
        if t == 0:
            torch.testing.assert_close(means.stoch[0], prior.mean)


def test_the_recurrence_is_a_gru_cell():
    torch.manual_seed(0)
    rssm = RSSM(OBSERVATION, ACTION, **TINY, input_layers=0)
    cell = torch.nn.GRUCell(TINY["stoch_dim"] + ACTION, TINY["deter_dim"])
    for name, layer in {"ih": rssm.input.first, "hh": rssm.recurrent}.items():
        getattr(cell, f"weight_{name}").data, getattr(cell, f"bias_{name}").data = layer.weight.data, layer.bias.data
    belief, action = rssm.initial(BATCH), torch.randn(BATCH, ACTION)
    belief = Belief(torch.rand_like(belief.deter), torch.rand_like(belief.stoch))
    deter, _ = rssm.predict(belief, action)
    torch.testing.assert_close(deter, cell(torch.cat([belief.stoch, action], -1), belief.deter))


def test_a_sequence_is_its_steps_and_begins_anew_where_an_episode_does():
    rssm, data, first = tiny().rssm, batch(), torch.zeros(STEPS, BATCH, dtype=torch.bool)
    first[3, 1] = first[0, 2] = True
    noise = rssm.draw_noise(data["actions"], generator(3))
    whole, priors = rssm.observe_sequence(data["actions"], data["observations"], first=first, noise=noise)
    belief, steps = rssm.initial(BATCH), []
    for t in range(STEPS):
        posterior, prior = rssm.observe(
            belief, data["actions"][t], data["observations"][t], first=first[t], noise=noise[t]
        )
        belief = posterior.belief
        steps.append((*belief, *posterior.gaussian, *prior))
    stacked = [torch.stack(tensors) for tensors in zip(*steps, strict=True)]
    torch.testing.assert_close([*whole.belief, *whole.gaussian, *priors], stacked)
    data["actions"][3] = 0
    later = {name: tensor[3:] for name, tensor in data.items() if name != "rewards"}
    alone, _ = rssm.observe_sequence(**later, noise=noise[3:])
    torch.testing.assert_close(alone.belief.deter[:, 1], whole.belief.deter[3:, 1])


def test_rows_of_the_batch_are_independent():
    model, data = tiny(free_nats=0.0), batch()
    noise = model.rssm.draw_noise(data["actions"], generator(3))
    data["observations"].requires_grad_()
    fix_noise(model, noise)
    losses = model.loss(**data)
    for tensor in (*losses.posteriors.belief, *losses.posteriors.gaussian):
        (grad,) = torch.autograd.grad(tensor[:, 1].sum(), data["observations"], retain_graph=True)
        assert grad[:, [0, 2, 3]].count_nonzero() == 0
    alone = []
    for i in range(BATCH):
        fix_noise(model, noise[:, i : i + 1])
        alone.append(model.loss(**{n: x[:, i : i + 1].detach() for n, x in data.items()}))
    for name in ("total", "observation", "reward", "kl"):
        mean = torch.stack([getattr(losses, name) for losses in alone]).mean()
        torch.testing.assert_close(getattr(losses, name), mean)


def test_candidates_of_each_belief_broadcast():
    rssm = tiny().rssm
    belief = some_belief(rssm, 2)
    actions = torch.randn(3, 2, 5, ACTION, dtype=torch.float64, generator=generator())
    noise = rssm.draw_noise(actions)
    spread = rssm.imagine(Belief(*(state[:, None] for state in belief)), actions, noise=noise)
    copied = Belief(*(state[:, None].expand(-1, 5, -1) for state in belief))
    torch.testing.assert_close(spread, rssm.imagine(copied, actions, noise=noise))
    mapped = torch.func.vmap(lambda one, acts, draw: rssm.imagine(one, acts, noise=draw), (0, 1, 1), 1)
    torch.testing.assert_close(mapped(copied, actions, noise), spread)


def test_randomness_is_the_generators_or_the_global_one():
    model, data = tiny(), batch()
    given = data["actions"], data["observations"]

    def drawn(source: torch.Generator | None) -> torch.Tensor:
        return model.rssm.observe_sequence(*given, generator=source)[0].belief.stoch

    assert torch.equal(drawn(generator(5)), drawn(generator(5)))
    torch.manual_seed(5)
    assert torch.equal(drawn(None), drawn(generator(5)))
    assert not torch.equal(drawn(generator(6)), drawn(generator(5)))
    assert torch.equal(loss_of(model, data, 5).total, loss_of(model, data, 5).total)
    assert not torch.equal(loss_of(model, data, 6).total, loss_of(model, data, 5).total)


def test_observations_come_and_go_in_the_units_of_the_environment():
    plain, scaled, data, noise = tiny(), tiny(), batch(), torch.zeros(STEPS, BATCH, 3, dtype=torch.float64)
    scaled.scale.mean.fill_(3.0)
    scaled.scale.std.fill_(2.0)
    raw = {**data, "observations": 3 + 2 * data["observations"]}
    fix_noise(plain, noise)
    fix_noise(scaled, noise)
    losses, others = plain.loss(**data), scaled.loss(**raw)
    torch.testing.assert_close((losses.total, losses.observation), (others.total, others.observation))
    torch.testing.assert_close(losses.posteriors, others.posteriors)
    belief = losses.posteriors.belief
    torch.testing.assert_close(scaled.observation(belief), 3 + 2 * plain.observation(belief))
    posteriors, priors = scaled.observe_sequence(raw["actions"], raw["observations"], noise=noise)
    torch.testing.assert_close((posteriors, priors), plain.observe_sequence(data["actions"], data["observations"]))
    one = scaled.observe(scaled.rssm.initial(BATCH), raw["actions"][0], raw["observations"][0])
    torch.testing.assert_close(one.deter, belief.deter[0])


def test_parts_of_the_loss_and_their_weights():
    model, data = tiny(observation_weight=2.0, reward_weight=3.0, kl_weight=0.5, free_nats=0.0), batch()
    losses = loss_of(model, data)
    priors = model.rssm.observe_sequence(data["actions"], data["observations"], generator=generator())[1]
    belief, posterior = losses.posteriors
    unit = Normal(0.0, 1.0).log_prob(torch.tensor(0.0))
    observation = -Normal(model.observation(belief), 1.0).log_prob(data["observations"]).sum(-1).mean()
    reward = -Normal(model.reward(belief), 1.0).log_prob(data["rewards"]).mean()
    torch.testing.assert_close(losses.observation, observation + OBSERVATION * unit)
    torch.testing.assert_close(losses.reward, reward + unit)
    torch.testing.assert_close(losses.kl, oracle(posterior, priors).mean())
    torch.testing.assert_close(losses.total, 2 * losses.observation + 3 * losses.reward + 0.5 * losses.kl)


def test_below_the_free_nats_the_kl_gives_no_gradient():
    below, above = tiny(free_nats=1e3, observation_weight=0.0, reward_weight=0.0), tiny(free_nats=0.0)
    losses = loss_of(below, batch())
    assert losses.total == 1e3
    assert all(grad.count_nonzero() == 0 for grad in gradients(below, losses.total).values())
    found = gradients(above, loss_of(above, batch()).total)
    assert found.keys() == dict(above.named_parameters()).keys()
    assert all(grad.count_nonzero() > 0 for grad in found.values())


def test_free_nats_count_in_each_step_of_each_sequence():
    plain = tiny(free_nats=0.0, observation_weight=0.0, reward_weight=0.0)
    losses = loss_of(plain, batch())
    priors = plain.rssm.observe_sequence(batch()["actions"], batch()["observations"], generator=generator())[1]
    kls = oracle(losses.posteriors.gaussian, priors)
    middle = kls.median().item()
    clipped = tiny(free_nats=middle, observation_weight=0.0, reward_weight=0.0)
    total = loss_of(clipped, batch()).total
    torch.testing.assert_close(total, kls.clamp(min=middle).mean())
    assert total > max(middle, kls.mean())


@pytest.mark.parametrize("balance", [0.0, 0.8, 1.0])
def test_balance_splits_the_gradient_of_the_kl_and_keeps_its_value(balance):
    weights = {"observation_weight": 0.0, "reward_weight": 0.0, "free_nats": 0.0}
    plain, balanced = tiny(**weights), tiny(**weights, kl_balance=balance)
    totals = [loss_of(model, batch(1)).total for model in (plain, balanced)]
    torch.testing.assert_close(*totals)
    usual, found = gradients(plain, totals[0]), gradients(balanced, totals[1])
    for head, share in {"rssm.prior": balance, "rssm.posterior": 1 - balance}.items():
        name = f"{head}.first.weight"
        torch.testing.assert_close(found[name], share * usual[name])


@pytest.mark.parametrize("sizes", [{}, {"input_layers": 0, "num_layers": 1}])
def test_gradients_are_those_of_finite_differences(sizes):
    torch.manual_seed(0)
    model = WorldModel(OBSERVATION, ACTION, hidden_dim=6, rssm={**TINY, **sizes}, free_nats=0.0).double()
    data, first = batch(4), torch.zeros(4, BATCH, dtype=torch.bool)
    first[2, 1] = True

    def loss() -> torch.Tensor:
        return loss_of(model, data, first=first).total

    found, step = gradients(model, loss()), 1e-6
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator(7))
        with torch.no_grad():
            above = (parameter.add_(direction, alpha=step), loss())[1]
            below = (parameter.sub_(direction, alpha=2 * step), loss())[1]
            parameter.add_(direction, alpha=step)
        torch.testing.assert_close((above - below) / (2 * step), found[name].mul(direction).sum(), rtol=1e-5, atol=1e-8)


def learn(model: WorldModel, updates: int, autocast: bool) -> list[float]:
    """Losses on a damped rotation that the action pushes; its first number is the reward."""
    system, draw, seen = torch.tensor([[0.9, 0.3], [-0.3, 0.9]]), generator(), []
    optimizer, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    actions, state = 2 * torch.rand(10, 32, 1, generator=draw) - 1, torch.zeros(32, 2)
    for action in actions:
        state = state @ system.T + action
        seen.append(state)
    data = {"observations": torch.stack(seen), "actions": actions, "rewards": torch.stack(seen)[..., 0]}
    for _ in range(updates):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model.loss(**data).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("autocast", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_learns_a_linear_system(autocast):
    torch.manual_seed(0)
    losses = learn(WorldModel(2, 1, 32, rssm={"deter_dim": 32, "stoch_dim": 4}, free_nats=0.0), 150, autocast)
    assert losses[-1] < 0.05 * losses[0]


def test_bfloat16_autocast_keeps_beliefs_and_losses_in_float32():
    torch.manual_seed(0)
    model, data = tiny().float(), {name: tensor.float() for name, tensor in batch().items()}
    noise = model.rssm.draw_noise(data["actions"])
    fix_noise(model, noise)
    exact = model.loss(**data)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(**data)
    assert all(tensor.dtype == torch.float32 for tensor in (losses.total, losses.kl, *losses.posteriors.belief))
    torch.testing.assert_close(losses.total, exact.total, rtol=0.02, atol=0)
    torch.testing.assert_close(losses.posteriors.belief, exact.posteriors.belief, rtol=0, atol=0.05)


@pytest.mark.slow
def test_imagine_compiles_into_one_graph():
    model = tiny()
    belief, actions = some_belief(model.rssm), batch()["actions"][:2]
    noise = model.rssm.draw_noise(actions)

    def returns(belief: Belief, actions: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return model.reward(model.rssm.imagine(belief, actions, noise=noise)).sum(0)

    compiled = torch.compile(returns, fullgraph=True, backend="aot_eager")
    for context in (torch.enable_grad, torch.inference_mode):
        with context():
            torch.testing.assert_close(compiled(belief, actions, noise), returns(belief, actions, noise))


def test_every_parameter_is_used_and_losses_are_frozen():
    model = tiny()
    losses = model.loss(**batch())
    assert gradients(model, losses.total).keys() == dict(model.named_parameters()).keys()
    with pytest.raises(dataclasses.FrozenInstanceError):
        losses.total = losses.kl


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RSSM(0, 2), "observation_dim must be at least 1, got 0"),
        (lambda: RSSM(3, 2, num_layers=0), "num_layers must be at least 1, got 0"),
        (lambda: RSSM(3, 2, input_layers=-1), "input_layers must be at least 0, got -1"),
        (lambda: RSSM(3, 2, min_std=0.0), r"min_std must be positive and finite, got 0\.0"),
        (lambda: tiny(free_nats=-1.0), r"free_nats must be at least 0 and finite, got -1\.0"),
        (lambda: tiny(reward_weight=float("nan")), "reward_weight must be at least 0 and finite, got nan"),
        (lambda: tiny(kl_balance=1.5), r"kl_balance must be between 0 and 1, got 1\.5"),
        (lambda: tiny(num_layers=-1), "num_layers must be at least 0, got -1"),
        (
            lambda: tiny().loss(**{**batch(), "actions": torch.zeros(STEPS, BATCH, 3)}),
            r"actions must have 2 numbers each, got \[6, 4, 3\]",
        ),
        (
            lambda: tiny().loss(**{**batch(), "observations": torch.zeros(STEPS, BATCH, 1)}),
            r"observations must have 3 numbers each, got \[6, 4, 1\]",
        ),
        (
            lambda: tiny().observe(tiny().rssm.initial(4), torch.zeros(4, 2), torch.zeros(4, 1)),
            r"observations must have 3 numbers each, got \[4, 1\]",
        ),
        (
            lambda: tiny().loss(**{**batch(), "rewards": torch.zeros(BATCH, STEPS)}),
            r"Observations, actions, rewards must be \[T, B, O\], .*, got .*, \[4, 6\]",
        ),
        (
            lambda: tiny().rssm.imagine(tiny().rssm.initial(4), torch.zeros(6, 4, 1)),
            r"actions must have 2 numbers each, got \[6, 4, 1\]",
        ),
    ],
)
def test_what_does_not_fit_raises_one_sentence(build: Callable, message: str):
    with pytest.raises(ValueError, match=rf"^{message}\.$"):
        build()


KEEP_TO_SHAPES = """
from jaxtyping import install_import_hook

install_import_hook("lit_dcem.planet.model", "beartype.beartype")

import torch
from lit_dcem.planet.model.world_model import WorldModel

model, first = WorldModel(3, 2, kl_balance=0.8), torch.zeros(6, 4, dtype=torch.bool)
losses = model.loss(torch.randn(6, 4, 3), torch.randn(6, 4, 2), torch.randn(6, 4), first=first)
belief = model.rssm.initial([4, 1])
model.reward(model.rssm.imagine(belief, torch.randn(5, 4, 7, 2)))
model.observation(model.rssm.observe(model.rssm.initial(4), torch.randn(4, 2), torch.randn(4, 3), first=first[0])[0][0])
try:
    model.rssm.imagine(belief, torch.zeros(5, 4, 7, 2, dtype=torch.long))
except Exception as error:
    assert "actions" in str(error), error
else:
    raise SystemExit("nothing checks the shapes")
"""


def test_annotated_shapes_hold():
    command = [sys.executable, "-W", "error", "-c", KEEP_TO_SHAPES]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
