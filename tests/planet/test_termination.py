"""Tasks that end by themselves: what the world model learns of the end, and that plans count no reward after it."""

import math

import gymnasium
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from gymnasium.spaces import Box
from torch.distributions import Bernoulli

from lit_dcem import DCEM, CEMPlanner, PlanetPhase1, Rollouts, WorldModel
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.planning import imagination
from lit_dcem.planet.planning.imagination import imagined_returns, survival
from lit_dcem.planet.planning.problem import Problem

SIZES = {"hidden_dim": 8, "rssm": {"deter_dim": 6, "stoch_dim": 3}}
HORIZON, ENVS, CANDIDATES = 5, 2, 4


def model_of(weight, dtype=torch.float64):
    torch.manual_seed(0)
    return WorldModel(3, 2, **SIZES, free_nats=0.0, termination_weight=weight).to(dtype)


def constant_end(model, probability):
    """Let it predict the same probability of the end everywhere."""
    last = [each for each in model.termination_head.modules() if isinstance(each, torch.nn.Linear)][-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, math.log(probability / (1 - probability)))
    return model


def imagined(dtype=torch.float64):
    """Belief, actions and noise."""
    torch.manual_seed(1)
    belief = Belief(torch.randn(ENVS, 1, 6, dtype=dtype).tanh(), torch.randn(ENVS, 1, 3, dtype=dtype))
    actions = torch.rand(HORIZON, ENVS, CANDIDATES, 2, dtype=dtype) * 2 - 1
    return belief, actions, torch.randn(HORIZON, ENVS, CANDIDATES, 3, dtype=dtype)


def sequences(steps=6, batch=3):
    torch.manual_seed(2)
    sizes = {"observations": [3], "actions": [2], "rewards": []}
    first = torch.zeros(steps, batch, dtype=torch.bool)
    first[3, 1] = first[0, 2] = True
    terminated = torch.zeros(steps, batch, dtype=torch.float64)
    terminated[2, 1] = 1
    made = {name: torch.randn(steps, batch, *size, dtype=torch.float64) for name, size in sizes.items()}
    return made | {"first": first, "terminated": terminated}


def loss_of(model, **changed):
    torch.manual_seed(0)
    return model.loss(**{**sequences(), **changed})


# What a plan is worth


def test_survival_by_hand():
    ends = torch.tensor([[0.5, 0.0], [0.2, 1.0], [0.9, 0.3]])
    torch.testing.assert_close(survival(ends.logit()), torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.4, 0.0]]))


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("step_by_step", [True, False], ids=["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize("probability", [0.25, 1e-12, 1 - 1e-12])
def test_a_constant_probability_of_the_end_discounts_by_hand(probability, step_by_step, noisy):
    belief, actions, noise = imagined()
    noise = noise if noisy else None
    model = constant_end(model_of(1.0), probability)
    rewards = model.reward(model.rssm.imagine(belief, actions, sample=noisy, noise=noise))
    returns = imagination._returns(model, belief, actions, noise, step_by_step)
    expected = sum((1 - probability) ** t * rewards[t] for t in range(HORIZON))
    torch.testing.assert_close(returns, expected)


@pytest.mark.parametrize("step_by_step", [True, False], ids=["as on a CPU", "as on a GPU"])
def test_rewards_count_until_the_predicted_end_that_of_the_last_step_included(step_by_step):
    model, (belief, actions, noise) = model_of(1.0), imagined()
    beliefs = model.rssm.imagine(belief, actions, noise=noise)
    rewards, ends = model.reward(beliefs), model.termination(beliefs).sigmoid()
    returns = imagination._returns(model, belief, actions, noise, step_by_step)
    for e in range(ENVS):
        for n in range(CANDIDATES):
            total, alive = 0.0, 1.0
            for t in range(HORIZON):
                total += alive * rewards[t, e, n].item()
                alive *= 1 - ends[t, e, n].item()
            assert returns[e, n].item() == pytest.approx(total, rel=1e-9)


def test_without_the_head_all_rewards_count():
    model, (belief, actions, noise) = model_of(0.0), imagined()
    rewards = model.reward(model.rssm.imagine(belief, actions, noise=noise))
    torch.testing.assert_close(imagined_returns(model, belief, actions, noise), rewards.sum(0))
    with pytest.raises(ValueError, match="termination_weight above 0, got 0"):
        model.termination(belief)


def test_gradients_of_returns_are_those_of_finite_differences():
    model, (belief, actions, noise) = model_of(1.0), imagined()
    assert torch.autograd.gradcheck(lambda a: imagined_returns(model, belief, a, noise), actions.requires_grad_())
    imagined_returns(model, belief, actions, noise).sum().backward()
    assert all(each.grad.count_nonzero() for each in model.termination_head.parameters())


def test_a_certain_end_gives_finite_gradients():
    model, (belief, actions, noise) = model_of(1.0, torch.float32), imagined(torch.float32)
    last = [each for each in model.termination_head.modules() if isinstance(each, torch.nn.Linear)][-1]
    torch.nn.init.constant_(last.bias, 1e4)
    returns = imagined_returns(model, belief, actions.requires_grad_(), noise)
    (gradient,) = torch.autograd.grad(returns.sum(), actions)
    assert returns.isfinite().all() and gradient.isfinite().all() and not gradient[1:].any() and gradient[0].any()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_planners_imagine_the_end_in_every_precision(precision, frozen, processor):
    processor(bfloat16=True)
    model, (belief, actions, _) = model_of(1.0, torch.float32), imagined(torch.float32)
    points = actions.permute(1, 2, 0, 3).flatten(2)
    search = DCEM(num_candidates=8, num_elites=2, num_iterations=2, lower=-1.0, upper=1.0)
    planner = CEMPlanner(search, HORIZON, sample=False, precision=precision)
    start = Belief(*(part.squeeze(1) for part in belief))
    for probability in (0.25, 0.75):  # copies of a model follow it
        constant_end(model, probability)
        returns = -planner.objective(Problem(model, start, frozen=frozen))(points)
        rewards = model.reward(model.rssm.imagine(belief, actions, sample=False))
        expected = sum((1 - probability) ** t * rewards[t] for t in range(HORIZON))
        assert returns.dtype == torch.float32
        tolerance = {"atol": 0.03, "rtol": 0.0} if precision == "bfloat16" else {"atol": 1e-5, "rtol": 1e-5}
        torch.testing.assert_close(returns, expected, **tolerance)


# What the model learns


def test_the_loss_is_the_cross_entropy_of_what_terminated():
    model, plain = model_of(0.7), model_of(0.0)
    losses, without = loss_of(model), loss_of(plain)
    logits = model.termination(losses.posteriors.belief)
    torch.testing.assert_close(losses.termination, -Bernoulli(logits=logits).log_prob(sequences()["terminated"]).mean())
    parts = losses.observation + 10 * losses.reward + losses.kl
    torch.testing.assert_close(losses.total, parts + 0.7 * losses.termination)
    assert without.termination == 0
    torch.testing.assert_close(without.total, without.observation + 10 * without.reward + without.kl)
    as_bools = loss_of(model, terminated=sequences()["terminated"].bool())
    assert torch.equal(as_bools.total, losses.total)


def test_no_reward_is_learned_where_an_episode_begins():
    model, rewards = model_of(0.0), sequences()["rewards"]
    other = rewards.masked_fill(sequences()["first"], 1e6)
    assert torch.equal(loss_of(model, rewards=other).total, loss_of(model).total)
    assert not torch.equal(loss_of(model, rewards=rewards + 1).total, loss_of(model).total)
    everywhere = torch.ones_like(sequences()["first"])
    assert loss_of(model, first=everywhere).reward == 0


def test_nothing_of_an_episode_reaches_the_next_one():
    model = model_of(1.0)
    inputs = {name: sequences()[name] for name in ("observations", "actions")}
    parts = []
    for changed in (False, True):
        values = {name: tensor.clone() for name, tensor in inputs.items()}
        if changed:
            for tensor in values.values():
                tensor[:3, 1] += 1
            values["actions"][3, 1] += 1  # led nowhere
        losses = loss_of(model, **values)
        kept = losses.posteriors.belief.deter[3:, 1], losses.posteriors.gaussian.mean[3:, 1]
        parts.append(kept)
    torch.testing.assert_close(*parts, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"terminated": None}, "needs terminated to compute its loss, got None"),
        ({"terminated": torch.zeros(6)}, r"terminated must have the shape of rewards, got \[6\] and \[6, 3\]"),
        ({"first": torch.zeros(3, 6, dtype=torch.bool)}, r"first must have the shape of rewards, got \[3, 6\]"),
    ],
)
def test_marks_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        loss_of(model_of(1.0), **changed)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_out_of_range(weight):
    with pytest.raises(ValueError, match=f"termination_weight must be at least 0 and finite, got {weight}"):
        model_of(weight)


# What it is good for


class Cliff(gymnasium.Env):
    """A step to the right is rewarded most, and the last one; to the left it goes on, twelve times."""

    observation_space = action_space = Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        falls = bool(action[0] > 0)
        return np.sign(action), 1.0 if falls else 0.4, falls, False, {}


@pytest.fixture
def cliff():
    gymnasium.register("Cliff-v0", Cliff, max_episode_steps=12)
    yield "Cliff-v0"
    del gymnasium.registry["Cliff-v0"]


def learned(path, env, weight):
    """Return of the plans of a model that has learned from random episodes, most of them of a step or two."""
    pl.seed_everything(0, verbose=False)
    model = WorldModel(
        1, 1, 24, rssm={"deter_dim": 24, "stoch_dim": 3}, free_nats=0.0, reward_weight=30.0, termination_weight=weight
    )
    search = DCEM(num_candidates=60, num_elites=10, num_iterations=4, temperature=0.0, lower=-1.0, upper=1.0)
    module = PlanetPhase1(model, CEMPlanner(search, horizon=6, initial_std=0.7), lambda p: torch.optim.Adam(p, 3e-3))
    data = Rollouts(
        env, batch_size=16, sequence_length=10, update_interval=0, updates_per_epoch=250, seed_episodes=80,
        evaluation_episodes=3, seed=0,
    )  # fmt: skip
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        max_epochs=1, devices=1, num_sanity_val_steps=0, enable_checkpointing=False, default_root_dir=path, **quiet
    )
    trainer.fit(module, data)
    return trainer.callback_metrics


@pytest.mark.slow
def test_a_fall_is_avoided_only_where_the_end_is_predicted(tmp_path, cliff):
    metrics = learned(tmp_path / "with", cliff, 1.0)
    assert metrics["val/return"] == pytest.approx(12 * 0.4), "the most there is"
    assert 0 < metrics["train/termination"] < 0.1
    with pytest.warns(UserWarning, match="Cliff-v0 end by themselves, which the world model does not predict"):
        metrics = learned(tmp_path / "without", cliff, 0.0)
    assert metrics["val/return"] == 1, "the nearest reward, and then nothing"
    assert "train/termination" not in metrics
