"""Losses of proximal policy optimisation as pure functions (PPO, arXiv 1707.06347; GAE, arXiv 1506.02438)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def generalized_advantages(
    rewards: Float[Tensor, " time *batch"],
    values: Float[Tensor, " time *batch"],
    next_values: Float[Tensor, " time *batch"],
    terminated: Bool[Tensor, " time *batch"],
    truncated: Bool[Tensor, " time *batch"],
    discount: float = 0.99,
    gae_lambda: float = 0.95,
) -> Float[Tensor, " time *batch"]:
    r"""Generalised advantage estimates (GAE, eq. 16), in which an end of the task is not a limit of time.

    .. math:: A_t = \sum_{i \ge 0} (\gamma \lambda)^i \delta_{t+i}, \qquad \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)

    The sum is over the steps that follow in the same episode. After ``terminated`` nothing follows, and V(s_t+1) counts
    as 0; after ``truncated`` (or where the tensors end) V(s_t+1) stands for what would have followed.

    Args:
        rewards: of step t.
        values: V(s_t), where action t was chosen.
        next_values: V(s_t+1), of the state that step t led to; not of the next episode's first.
        terminated: the task was over after step t.
        truncated: the episode was cut off after step t.
        discount: of rewards (paper: 0.99).
        gae_lambda: lambda of GAE (paper: 0.95).

    Raises:
        ValueError: tensors of different shapes, or a discount or gae_lambda outside [0, 1].
    """
    shapes = {tuple(each.shape) for each in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) > 1:
        raise ValueError(f"Rewards, values and ends of episodes must have one shape, got {sorted(shapes)}.")
    if not (0 <= discount <= 1 and 0 <= gae_lambda <= 1):
        raise ValueError(f"discount and gae_lambda must be between 0 and 1, got {discount} and {gae_lambda}.")
    deltas = rewards + discount * next_values * ~terminated - values
    decays = discount * gae_lambda * (~(terminated | truncated)).to(deltas)
    advantages, following = torch.empty_like(deltas), torch.zeros_like(deltas[:1]).squeeze(0)
    for t in range(len(deltas) - 1, -1, -1):
        following = deltas[t] + decays[t] * following
        advantages[t] = following
    return advantages


def log_density(
    points: Float[Tensor, "*batch dim"], mean: Float[Tensor, "*batch dim"], std: Tensor
) -> Float[Tensor, "*batch"]:
    """Logarithm of the density of a diagonal Gaussian; ``std`` broadcasts."""
    standard = (points - mean) / std
    return (-0.5 * standard.square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


class PolicyLoss(NamedTuple):
    """The clipped loss, and how far the policy is from the one that acted; means over the steps that count."""

    loss: Float[Tensor, ""]
    """to minimise: minus the clipped surrogate objective (PPO, eq. 7)"""
    clipped: Float[Tensor, ""]
    """share of the steps whose ratio is outside the clip range"""
    ratio: Float[Tensor, ""]
    """largest distance of a ratio of densities from 1"""


def clipped_policy_loss(
    log_densities: Float[Tensor, "*batch"],
    old_log_densities: Float[Tensor, "*batch"],
    advantages: Float[Tensor, "*batch"],
    counts: Bool[Tensor, "*batch"],
    clip: float = 0.2,
) -> PolicyLoss:
    r"""PPO's clipped objective (eq. 7), negated, as a mean over what counts.

    .. math:: -\mathrm{mean}\ \min\left(\rho_t A_t,\ \mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon)\, A_t\right),
        \qquad \rho_t = \frac{\pi(u_t)}{\pi_\mathrm{old}(u_t)}

    Args:
        log_densities: of the actions taken, under the policy as it is; gradients go through these.
        old_log_densities: of the same actions, under the policy that took them.
        advantages: of the actions.
        counts: which steps count.
        clip: range of the ratio (paper: 0.2).
    """
    ratio = (log_densities - old_log_densities).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    distance = (ratio.detach() - 1).abs()
    return PolicyLoss(
        -mean_of(surrogate, counts),
        mean_of((distance > clip).to(ratio), counts),
        distance.where(counts, 0).max(),
    )


def value_loss(
    values: Float[Tensor, "*batch"], returns: Float[Tensor, "*batch"], counts: Bool[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    r"""Half the mean squared error of the values over what counts.

    .. math:: \frac{1}{2n} \sum_t \left(V_t - G_t\right)^2
    """
    return 0.5 * mean_of((values - returns).square(), counts)


def standardized(advantages: Float[Tensor, "*batch"], counts: Bool[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """With mean 0 and variance 1 over what counts; 0 elsewhere."""
    centered = (advantages - mean_of(advantages, counts)).where(counts, 0)
    return centered / (mean_of(centered.square(), counts).sqrt() + 1e-8)


def mean_of(values: Float[Tensor, "*batch"], counts: Bool[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Mean over what counts; 0 if nothing does."""
    return values.where(counts, 0).sum() / counts.sum().clamp(min=1)
