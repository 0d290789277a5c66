"""Peers of PlaNet's parts: plain implementations of the same arithmetic, torchrl, and matrix products alone."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from lit_dcem import WorldModel
from lit_dcem.planet.model.belief import Gaussian, kl_divergence
from lit_dcem.planet.planning.planner import ModelPlanner

HAS_TORCHRL = find_spec("torchrl") is not None
HORIZON = 12


class PlainModel(nn.Module):
    """A plain RSSM: `GRUCell` on concatenated inputs, a reward in every step, no optimisations."""

    def __init__(
        self, observation_dim: int, action_dim: int, deter: int = 200, stoch: int = 30, hidden: int = 200
    ) -> None:
        super().__init__()
        self.deter, self.stoch = deter, stoch
        self.input = nn.Sequential(nn.Linear(stoch + action_dim, hidden), nn.ReLU())
        self.cell = nn.GRUCell(hidden, deter)
        self.prior = _mlp(deter, hidden, 2 * stoch)
        self.posterior = _mlp(deter + observation_dim, hidden, 2 * stoch)
        self.observation = _mlp(deter + stoch, hidden, observation_dim)
        self.reward = _mlp(deter + stoch, hidden, 1)

    def step(self, deter: Tensor, stoch: Tensor, action: Tensor) -> tuple[Tensor, Gaussian]:
        deter = self.cell(self.input(torch.cat([stoch, action], -1)), deter)
        return deter, _gaussian(self.prior(deter))

    def returns(self, deter: Tensor, stoch: Tensor, actions: Tensor) -> Tensor:
        """Return imagined returns ``[N]`` of actions ``[N, H, A]``, from beliefs ``[N, size]``."""
        total = torch.zeros(len(actions))
        for action in actions.unbind(1):
            deter, prior = self.step(deter, stoch, action)
            stoch = prior.sample(torch.randn_like(prior.mean))
            total = total + self.reward(torch.cat([deter, stoch], -1)).squeeze(-1)
        return total

    def loss(self, observations: Tensor, actions: Tensor, rewards: Tensor) -> Tensor:
        deter, stoch = (torch.zeros(actions.shape[1], size) for size in (self.deter, self.stoch))
        beliefs, kls = [], []
        for observation, action in zip(observations, actions, strict=True):
            deter, prior = self.step(deter, stoch, action)
            posterior = _gaussian(self.posterior(torch.cat([deter, observation], -1)))
            stoch = posterior.sample(torch.randn_like(posterior.mean))
            beliefs.append(torch.cat([deter, stoch], -1))
            kls.append(kl_divergence(posterior, prior))
        belief = torch.stack(beliefs)
        return likelihood(
            self.observation(belief), observations, self.reward(belief).squeeze(-1), rewards, torch.stack(kls)
        )


def likelihood(observation: Tensor, observations: Tensor, reward: Tensor, rewards: Tensor, kl: Tensor) -> Tensor:
    """Return PlaNet's loss with its published weights."""
    errors = (observation - observations).square().sum(-1).mean() + 10 * (reward - rewards).square().mean()
    return 0.5 * errors + kl.clamp(min=3).mean()


def plain_plan(model: PlainModel, action_dim: int, candidates: int, elites: int, iterations: int) -> Tensor:
    """Plan by plain CEM over the actions, starting from zero; return the first action."""
    mean = torch.zeros(HORIZON, action_dim)
    std, deter, stoch = torch.ones_like(mean), torch.zeros(candidates, 200), torch.zeros(candidates, 30)
    for _ in range(iterations):
        actions = (mean + std * torch.randn(candidates, HORIZON, action_dim)).clamp(-1, 1)
        best = actions[model.returns(deter, stoch, actions).topk(elites).indices]
        mean, std = best.mean(0), best.std(0)
    return mean[0]


def matrix_products(model: WorldModel, rows: int, dtype: torch.dtype, steps: int = HORIZON) -> Any:
    """Make a floor: only the matrix products of imagining ``rows`` sequences and their rewards."""
    rssm = model.rssm
    mlps = [rssm.input, rssm.prior]
    layers = [layer for mlp in mlps for layer in (mlp.first, *mlp.rest) if isinstance(layer, nn.Linear)]
    heads = [layer for layer in (model.reward_head.first, *model.reward_head.rest) if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach().to(dtype) for layer in [*layers, rssm.recurrent]]
    inputs = [torch.randn(rows, weight.shape[1], dtype=dtype) for weight in weights]
    after = [layer.weight.detach().to(dtype) for layer in heads]
    states = [torch.randn(rows * steps, weight.shape[1], dtype=dtype) for weight in after]

    def work() -> None:
        for _ in range(steps):
            for x, weight in zip(inputs, weights, strict=True):
                torch.mm(x, weight.T)
        for x, weight in zip(states, after, strict=True):
            torch.mm(x, weight.T)

    return work


def torchrl_planner(model: PlainModel, action_dim: int, candidates: int, elites: int, iterations: int) -> Any:
    """Make torchrl's CEMPlanner over an environment that wraps the plain model. A call plans once."""
    tensordict, data, nn_ = (import_module(name) for name in ("tensordict", "torchrl.data", "tensordict.nn"))
    base: Any = import_module("torchrl.envs.model_based.common").ModelBasedEnvBase

    def step(deter: Tensor, stoch: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = (part.flatten(0, -2) for part in (deter, stoch, action))  # GRUCell takes matrices
        new, prior = model.step(*rows)
        drawn = prior.sample(torch.randn_like(prior.mean))
        reward = model.reward(torch.cat([new, drawn], -1))
        return new.view_as(deter), drawn.view_as(stoch), reward.view(*deter.shape[:-1], 1)

    class Imagination(base):
        def __init__(self) -> None:
            keys = ["deter", "stoch"]
            super().__init__(nn_.TensorDictModule(step, in_keys=[*keys, "action"], out_keys=[*keys, "reward"]))
            self.observation_spec = data.Composite(deter=data.Unbounded((200,)), stoch=data.Unbounded((30,)))
            self.action_spec = data.Bounded(-1.0, 1.0, (action_dim,))
            self.reward_spec = data.Unbounded((1,))

        def _reset(self, tensordict: Any, **_: Any) -> Any:
            return tensordict

    peer = import_module("torchrl.modules").CEMPlanner(Imagination(), HORIZON, iterations, candidates, elites)
    start = tensordict.TensorDict({"deter": torch.zeros(1, 200), "stoch": torch.zeros(1, 30)}, [1])
    start["done"] = start["terminated"] = torch.zeros(1, 1, dtype=torch.bool)
    return lambda: peer.planning(start)


class TorchrlModel(nn.Module):
    """The RSSM of torchrl (one hidden layer where ours has two), with our heads and loss."""

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        data, modules, nn_ = (import_module(name) for name in ("torchrl.data", "torchrl.modules", "tensordict.nn"))

        prior = modules.RSSMPrior(data.Unbounded((action_dim,)), 200, 200, 30, action_dim=action_dim)
        posterior = modules.RSSMPosterior(200, 30, rnn_hidden_dim=200, obs_embed_dim=observation_dim)
        nexts = [("next", name) for name in ("prior_mean", "prior_std", "belief")]
        first = nn_.TensorDictModule(prior, ["state", "belief", "action"], [*nexts[:2], "_", nexts[2]])
        seen = [("next", name) for name in ("posterior_mean", "posterior_std", "state")]
        second = nn_.TensorDictModule(posterior, [("next", "belief"), ("next", "observation")], seen)
        self.rollout = modules.RSSMRollout(first, second)
        self.observation, self.reward = _mlp(230, 200, observation_dim), _mlp(230, 200, 1)

    def loss(self, observations: Tensor, actions: Tensor, rewards: Tensor) -> Tensor:
        tensordict = import_module("tensordict").TensorDict

        shape = actions.shape[1::-1]
        start = {"state": torch.zeros(*shape, 30), "belief": torch.zeros(*shape, 200)}
        nexts = tensordict({"observation": observations.transpose(0, 1)}, shape)
        out = self.rollout(tensordict({**start, "action": actions.transpose(0, 1), "next": nexts}, shape))["next"]
        belief = torch.cat([out["belief"], out["state"]], -1)
        kl = kl_divergence(*(Gaussian(out[f"{each}_mean"], out[f"{each}_std"]) for each in ("posterior", "prior")))
        predicted = self.observation(belief), self.reward(belief).squeeze(-1)
        return likelihood(predicted[0], observations.transpose(0, 1), predicted[1], rewards.T, kl)


def our_plan(planner: ModelPlanner, model: WorldModel, num_envs: int = 1) -> Any:
    """Make a work that plans once for ``num_envs`` environments."""
    belief, first = model.rssm.initial(num_envs), torch.ones(num_envs, dtype=torch.bool)
    return torch.inference_mode()(lambda: planner(model, belief, first, None))


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def _gaussian(outputs: Tensor) -> Gaussian:
    mean, std = outputs.chunk(2, -1)
    return Gaussian(mean, nn.functional.softplus(std) + 0.1)
