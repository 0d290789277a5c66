"""What PPO learns beside a planner: a value network and a standard deviation; and its loss, from `ppo`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.planet.data.trajectories import Trajectories
from lit_dcem.planet.model.belief import Belief, Gaussian, kl_divergence
from lit_dcem.planet.model.value import ValueHead
from lit_dcem.planet.phases import ppo
from lit_dcem.planet.planning.problem import Rest

Plan = Callable[[Belief, Rest | None], Tensor]
"""plan at each belief ``[E, size]``, given the rest of the one before if plans are kept: ``[E, H, A]``"""
KEPT = ("deter", "stoch", "sample", "mean", "rest", "rest_counts")
"""what updates want of the states of a `PlanPolicy`"""


class PolicyGradientLoss(NamedTuple):
    """Parts of the loss, means over the steps that count."""

    policy: ppo.PolicyLoss
    kl: Float[Tensor, ""]
    """KL(policy that acted || policy as it is), exact, in nats"""
    entropy: Float[Tensor, ""]


class PolicyGradient(nn.Module):
    """Value network and losses of PPO for a Gaussian around planned actions (section 5.3 of the paper, phase 3).

    Args:
        value: of a belief; its sizes must be those of the world model.
        action_dim: A.
        std: standard deviation of actions in [-1, 1], the first one if it is learned (paper: 0.1).
        learn_std: learn it, one number for each of the A.
        clip: range of the ratio of densities (paper: 0.2).
        discount: of the rewards of decisions (paper: 0.99).
        trace: lambda of the advantages (paper: 0.95).
        value_coefficient: weight of the value's loss (paper: 0.5).
        entropy_coefficient: weight of the entropy; of use if the std is learned.
        max_kl: once the policy of a batch is further than this from the one that acted, in nats, only the value learns
            until the next episodes; if not given, all passes count.
        value_steps: so many PPO steps come first, in which only the value learns.

    Raises:
        ValueError: an option out of range.
    """

    stopped: Tensor

    def __init__(
        self,
        value: ValueHead,
        action_dim: int,
        std: float = 0.1,
        learn_std: bool = False,
        clip: float = 0.2,
        discount: float = 0.99,
        trace: float = 0.95,
        value_coefficient: float = 0.5,
        entropy_coefficient: float = 0.0,
        max_kl: float | None = None,
        value_steps: int = 0,
    ) -> None:
        super().__init__()
        positive = {"std": std, "clip": clip, "max_kl": 1.0 if max_kl is None else max_kl}
        _check(positive, value_coefficient=value_coefficient, entropy_coefficient=entropy_coefficient)
        if action_dim < 1 or value_steps < 0 or not (0 <= discount <= 1 and 0 <= trace <= 1):
            rule = "action_dim must be at least 1, value_steps at least 0, discount and trace between 0 and 1"
            raise ValueError(f"{rule}, got {action_dim}, {value_steps}, {discount} and {trace}.")
        self.value = value
        self.log_std = nn.Parameter(torch.full((action_dim,), math.log(std)), requires_grad=learn_std)
        self.clip, self.discount, self.trace = clip, discount, trace
        self.value_coefficient, self.entropy_coefficient = value_coefficient, entropy_coefficient
        self.max_kl, self.value_steps = max_kl, value_steps
        self.register_buffer("stopped", torch.tensor(False))  # in checkpoints, as a step may be resumed in its middle

    @property
    def std(self) -> Float[Tensor, " action"]:
        """Standard deviation of the actions."""
        return self.log_std.exp()

    def begin(self, ppo_step: int) -> None:
        """Steps of PPO are numbered from 0; the policy learns again, once the value has had its steps."""
        self.stopped.fill_(ppo_step < self.value_steps)

    @torch.no_grad()
    def prepare(self, trajectories: Trajectories) -> dict[str, Tensor]:
        """What updates need to know of each step, from trajectories of a `PlanPolicy`: ``[T, E, ...]``."""
        states, counts = trajectories.states, trajectories.counts
        std = self.std.to(states["mean"].device)
        advantages = ppo.generalized_advantages(
            trajectories.rewards,
            states["value"],
            trajectories.next_states["value"],
            trajectories.terminated,
            trajectories.truncated,
            self.discount,
            self.trace,
        )
        return {
            **{name: states[name] for name in KEPT if name in states},
            "std": std.expand_as(states["mean"]).clone(),
            "log_density": ppo.log_density(states["sample"], states["mean"], std),
            "returns": advantages + states["value"],
            "advantages": ppo.standardized(advantages, counts),
            "counts": counts,
        }

    def policy_loss(self, steps: dict[str, Tensor], plan: Plan) -> PolicyGradientLoss:
        """Loss of the policy on steps ``[K, E, ...]``.

        The E environments of one time are given to ``plan`` together, as when they were acted in: what is computed is
        then the same to the last bit, and before the first update every ratio is 1.
        """
        times = zip(*(steps[name].unbind() for name in KEPT if name in steps), strict=True)
        means = torch.stack([plan(Belief(*time[:2]), Rest(*time[4:]) if time[4:] else None)[:, 0] for time in times])
        densities = ppo.log_density(steps["sample"], means, self.std)
        old = steps["log_density"], steps["advantages"], steps["counts"]
        moved = kl_divergence(Gaussian(steps["mean"], steps["std"]), Gaussian(means, self.std.expand_as(means)))
        return PolicyGradientLoss(
            ppo.clipped_policy_loss(densities, *old, self.clip),
            ppo.mean_of(moved.detach(), steps["counts"]),
            ppo.entropy(self.std),
        )

    def value_loss(self, steps: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Loss of the value network on steps ``[K, E, ...]``."""
        values = self.value(Belief(steps["deter"], steps["stoch"]))
        return ppo.value_loss(values, steps["returns"], steps["counts"])

    def weighted(self, parts: PolicyGradientLoss) -> Float[Tensor, ""]:
        """What the policy minimises."""
        return parts.policy.loss - self.entropy_coefficient * parts.entropy


def _check(positive: dict[str, float], **weights: float) -> None:
    for name, number in positive.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {number}.")
    for name, number in weights.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {number}.")
