"""World model of PlaNet from proprioception: an RSSM with heads for observations, rewards and termination."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from lit_dcem.planet.model.belief import Belief, Gaussian, Posterior, kl_divergence
from lit_dcem.planet.model.mlp import MLP
from lit_dcem.planet.model.observation_scale import ObservationScale
from lit_dcem.planet.model.rssm import RSSM, check_size


@dataclass(frozen=True)
class WorldModelLoss:
    """Parts of the loss, each a mean over time and batch, in nats, without the constants of the Gaussians."""

    total: Float[Tensor, ""]
    """what to minimise: the weighted sum of the parts, with free nats applied to the KL"""
    observation: Float[Tensor, ""]
    """half the squared error, summed over the numbers in an observation"""
    reward: Float[Tensor, ""]
    """half the squared error"""
    kl: Float[Tensor, ""]
    """KL(posterior || prior), before free nats"""
    termination: Float[Tensor, ""]
    """cross-entropy of whether the task was over; 0 when off"""
    posteriors: Posterior
    """beliefs of every step, ``[T, B, size]``, with gradients"""


class WorldModel(nn.Module):
    r"""RSSM with heads for observations and rewards: Gaussians of unit variance, whose means are MLPs of the belief.

    For tasks that end by themselves, set ``termination_weight`` above 0: a third head then predicts whether the task is
    over, and imagined rewards stop there (`lit_dcem.planet.planning.imagination`). Without it, imagination continues
    after a fall as if nothing had happened.

    Observations come and are predicted in the environment's units; `scale` converts them to those of the networks, in
    which the loss is measured.

    The loss is minus the variational bound of PlaNet (arXiv 1811.04551, eq. 3 and 6), with h and x as in `RSSM`. It is
    the mean over steps and sequences of

    .. math:: \frac{a}{2} \left\| o - \hat o(h, x) \right\|^2 + \frac{b}{2} \left(r - \hat r(h, x)\right)^2 +
        c\, \max\left(\mathrm{free},\ \mathrm{KL}(\mathrm{posterior} \,\|\, \mathrm{prior})\right)

    with the weights a, b and c of observation, reward and KL; a termination head adds its cross-entropy.
    Free nats are applied as in PlaNet's public code: to the KL of each step of each sequence, summed over the
    dimensions of x, before the mean over steps and sequences. A step with a smaller KL has no gradient.

    Args:
        observation_dim: O, numbers in an observation.
        action_dim: A, numbers in an action.
        hidden_dim: width of the heads' hidden layers (paper: 200), and of the RSSM's unless ``rssm`` says otherwise.
        num_layers: hidden layers of the heads (paper: 2).
        rssm: other options of `RSSM`, by name.
        observation_weight: of the observation part of the loss (PlaNet's code: 1).
        reward_weight: of the reward part (PlaNet's code: 10).
        kl_weight: of the KL (PlaNet's code: 1).
        free_nats: the KL of a step is not reduced below this (paper and PlaNet's code: 3).
        kl_balance: share of the KL's gradient that goes to the prior; the rest goes to the posterior (DreamerV2, arXiv
            2010.02193, section 2.2: 0.8). By default both get the whole gradient, as in PlaNet.
        termination_weight: of the termination part, the cross-entropy of a Bernoulli variable. 0 leaves the head out,
            for tasks that never end by themselves (PlaNet, the dm_control suite). For tasks that do, start with 1.

    Raises:
        ValueError: a size, a weight or another option out of range.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden_dim: int = 200,
        num_layers: int = 2,
        rssm: dict[str, Any] | None = None,
        observation_weight: float = 1.0,
        reward_weight: float = 10.0,
        kl_weight: float = 1.0,
        free_nats: float = 3.0,
        kl_balance: float | None = None,
        termination_weight: float = 0.0,
    ) -> None:
        super().__init__()
        weights = {"observation_weight": observation_weight, "reward_weight": reward_weight, "kl_weight": kl_weight}
        if num_layers < 0:
            raise ValueError(f"num_layers must be at least 0, got {num_layers}.")
        _check_weights(kl_balance, **weights, free_nats=free_nats, termination_weight=termination_weight)
        self.observation_weight, self.reward_weight, self.kl_weight = weights.values()
        self.free_nats, self.kl_balance = free_nats, kl_balance
        self.termination_weight = termination_weight
        self.scale = ObservationScale(observation_dim)
        self.rssm = RSSM(observation_dim, action_dim, **{"hidden_dim": hidden_dim, **(rssm or {})})
        belief_dim = self.rssm.deter_dim + self.rssm.stoch_dim
        self.observation_head = MLP(belief_dim, hidden_dim, num_layers, observation_dim)
        self.reward_head = MLP(belief_dim, hidden_dim, num_layers, 1)
        self.termination_head = MLP(belief_dim, hidden_dim, num_layers, 1) if termination_weight > 0 else None

    def observe(
        self,
        belief: Belief,
        action: Float[Tensor, "*batch action_dim"],
        observation: Float[Tensor, "*batch observation_dim"],
        *,
        first: Bool[Tensor, "*batch"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Belief:
        """The belief after one action and the observation it led to; the options of `RSSM.observe_sequence`."""
        posterior, _ = self.rssm.observe(belief, action, self._scaled(observation), first=first, generator=generator)
        return posterior.belief

    def observe_sequence(
        self,
        actions: Float[Tensor, "time *batch action_dim"],
        observations: Float[Tensor, "time *batch observation_dim"],
        *,
        first: Bool[Tensor, " time *batch"] | None = None,
        noise: Float[Tensor, "time *batch stoch_dim"] | None = None,
    ) -> tuple[Posterior, Gaussian]:
        """Posteriors and priors of T steps from the initial belief on; see `RSSM.observe_sequence`."""
        return self.rssm.observe_sequence(actions, self._scaled(observations), first=first, noise=noise)

    def observation(self, belief: Belief) -> Float[Tensor, "*batch observation_dim"]:
        """Mean of the observation at each belief, in the environment's units."""
        return self.scale.inverse(self.observation_head(torch.cat(belief, -1)))

    def reward(self, belief: Belief) -> Float[Tensor, "*batch"]:
        """Mean of the reward of the step that led to each belief."""
        return self.reward_head(torch.cat(belief, -1)).squeeze(-1)

    def termination(self, belief: Belief) -> Float[Tensor, "*batch"]:
        """Logit of the probability that the task is over at each belief.

        Raises:
            ValueError: the model has no termination head.
        """
        if self.termination_head is None:
            raise ValueError("A model that predicts termination must have a termination_weight above 0, got 0.")
        return self.termination_head(torch.cat(belief, -1)).squeeze(-1)

    def loss(
        self,
        observations: Float[Tensor, "time batch observation_dim"],
        actions: Float[Tensor, "time batch action_dim"],
        rewards: Float[Tensor, "time batch"],
        *,
        first: Bool[Tensor, "time batch"] | None = None,
        terminated: Shaped[Tensor, "time batch"] | None = None,
    ) -> WorldModelLoss:
        """Loss of B sequences of T steps, each starting from the initial belief.

        No reward comes with the first observation of an episode, so rewards are not learned where ``first`` is true.

        Args:
            observations: as the environment gives them.
            actions: action t led to observation t.
            rewards: reward t came with observation t.
            first: where an episode begins within a sequence; the model starts from the initial belief there.
            terminated: 1 or true where the task was over. Required with a termination head, and ignored without one.

        Raises:
            ValueError: tensors whose shapes do not fit each other or the model.
        """
        self._check_batch(observations, actions, rewards, first, terminated)
        scaled = self.scale(observations)
        posteriors, priors = self.rssm.observe_sequence(actions, scaled, first=first)
        reconstructed = self.observation_head(torch.cat(posteriors.belief, -1))
        observation = 0.5 * (reconstructed - scaled).square().sum(-1).mean()
        reward = 0.5 * _mean((self.reward(posteriors.belief) - rewards).square(), first)
        kl = self._kl(posteriors.gaussian, priors)
        total = self.observation_weight * observation + self.reward_weight * reward
        total = total + self.kl_weight * kl.clamp(min=self.free_nats).mean()
        termination = self._termination(posteriors.belief, terminated)
        total = total + self.termination_weight * termination
        return WorldModelLoss(total, observation, reward, kl.mean(), termination, posteriors)

    def _scaled(self, observations: Float[Tensor, "*batch observation_dim"]) -> Float[Tensor, "*batch observation_dim"]:
        check_size("observations", observations, self.rssm.observation_dim)
        return self.scale(observations)

    def _termination(self, belief: Belief, terminated: Tensor | None) -> Float[Tensor, ""]:
        if self.termination_head is None or terminated is None:
            return belief.deter.new_zeros(())
        logits = self.termination(belief)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.binary_cross_entropy_with_logits(logits, terminated.to(logits))

    def _kl(self, posterior: Gaussian, prior: Gaussian) -> Tensor:
        """KL of each step ``[T, B]``. The balance changes its gradient, not its value."""
        if self.kl_balance is None:
            return kl_divergence(posterior, prior)
        to_prior, to_posterior = kl_divergence(posterior.detach(), prior), kl_divergence(posterior, prior.detach())
        return torch.lerp(to_posterior, to_prior, self.kl_balance)

    def _check_batch(
        self, observations: Tensor, actions: Tensor, rewards: Tensor, first: Tensor | None, terminated: Tensor | None
    ) -> None:
        check_size("observations", observations, self.rssm.observation_dim)
        check_size("actions", actions, self.rssm.action_dim)
        if not observations.shape[:-1] == actions.shape[:-1] == rewards.shape or rewards.ndim != 2:
            shapes = ", ".join(str(list(tensor.shape)) for tensor in (observations, actions, rewards))
            raise ValueError(f"Observations, actions, rewards must be [T, B, O], [T, B, A], [T, B], got {shapes}.")
        for name, marks in (("first", first), ("terminated", terminated)):
            if marks is not None and marks.shape != rewards.shape:
                raise ValueError(f"{name} must have the shape of rewards, got {[*marks.shape]} and {[*rewards.shape]}.")
        if self.termination_head is not None and terminated is None:
            raise ValueError("A model with a termination head needs terminated to compute its loss, got None.")


def _mean(values: Tensor, first: Tensor | None) -> Tensor:
    """Mean over all steps that are not first in an episode."""
    if first is None:
        return values.mean()
    return values.masked_fill(first, 0).sum() / (~first).sum().clamp(min=1)


def _check_weights(kl_balance: float | None, **weights: float) -> None:
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {weight}.")
    if kl_balance is not None and not 0 <= kl_balance <= 1:
        raise ValueError(f"kl_balance must be between 0 and 1, got {kl_balance}.")
