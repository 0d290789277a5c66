"""Value network and losses of PPO for a planner that acts as a Gaussian policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_dcem.planet.data.trajectories import Trajectories
from lit_dcem.planet.data.transitions import Transitions
from lit_dcem.planet.model.belief import Belief, Gaussian, kl_divergence
from lit_dcem.planet.model.value import ValueHead
from lit_dcem.planet.phases import ppo
from lit_dcem.planet.planning.problem import Rest

Plan = Callable[[Belief, Rest | None], Tensor]
"""new plan at each belief ``[E, size]``, given the rest of the one before if plans are remembered: ``[E, H, A]``"""
ORIGIN = ("rest", "rest_counts", "origin_deter", "origin_stoch", "age")
"""what a plan came from, in the state of a `PlanPolicy` and in `Transitions`"""


class PolicyGradientLoss(NamedTuple):
    """Parts of the loss, means over the steps that count."""

    policy: ppo.PolicyLoss
    kl: Float[Tensor, ""]
    """KL(policy that acted || policy as it is), exact, in nats"""


class PolicyGradient(nn.Module):
    r"""Value network and losses of PPO for a Gaussian around planned actions (section 5.3 of the paper, phase 3).

    The policy draws actions u around the first action of each plan. In the loss, the advantages A are standardized;
    the returns are G = A + V with the advantages as they are:

    .. math:: A_t = \sum_{i \ge 0} (\gamma \lambda)^i \left(r_{t+i} + \gamma V_{t+i+1} - V_{t+i}\right), \qquad
        \rho_t = \frac{\pi(u_t)}{\pi_\mathrm{old}(u_t)}, \qquad \pi = \mathcal{N}(\hat u, \mathrm{std}^2)

    .. math:: \mathrm{loss} = -\mathrm{mean}\;
        \min\left(\rho_t A_t,\ \mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon)\, A_t\right)
        + \frac{c}{2}\, \mathrm{mean}\, (V_t - G_t)^2

    Args:
        value: of a belief; its sizes must be those of the world model.
        action_dim: A.
        std: standard deviation of actions in [-1, 1] (paper: 0.1).
        clip: range of the ratio of densities (paper: 0.2).
        discount: of the rewards of decisions (paper: 0.99).
        gae_lambda: lambda of the advantages (paper: 0.95).
        value_coefficient: weight of the value's loss (paper: 0.5).
        max_kl: once the policy of a batch is further than this from the one that acted, in nats, only the value learns
            until the next episodes; if not given, the policy learns in all passes.
        value_steps: number of PPO steps at the beginning in which only the value learns.

    Raises:
        ValueError: an option out of range.
    """

    log_std: Tensor
    stopped: Tensor

    def __init__(
        self,
        value: ValueHead,
        action_dim: int,
        std: float = 0.1,
        clip: float = 0.2,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        value_coefficient: float = 0.5,
        max_kl: float | None = None,
        value_steps: int = 0,
    ) -> None:
        super().__init__()
        positive = {"std": std, "clip": clip, "max_kl": 1.0 if max_kl is None else max_kl}
        _check(positive, value_coefficient=value_coefficient)
        if action_dim < 1 or value_steps < 0 or not (0 <= discount <= 1 and 0 <= gae_lambda <= 1):
            rule = "action_dim must be at least 1, value_steps at least 0, discount and gae_lambda between 0 and 1"
            raise ValueError(f"{rule}, got {action_dim}, {value_steps}, {discount} and {gae_lambda}.")
        self.value = value
        self.register_buffer("log_std", torch.full((action_dim,), math.log(std)))
        self.clip, self.discount, self.gae_lambda = clip, discount, gae_lambda
        self.value_coefficient = value_coefficient
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
    def prepare(self, trajectories: Trajectories) -> Transitions:
        """What updates learn from, made out of trajectories of a `PlanPolicy`."""
        states, counts = trajectories.states, trajectories.counts
        std = self.std.to(states["mean"].device)
        advantages = ppo.generalized_advantages(
            trajectories.rewards,
            states["value"],
            trajectories.next_states["value"],
            trajectories.terminated,
            trajectories.truncated,
            self.discount,
            self.gae_lambda,
        )
        return Transitions(
            deter=states["deter"],
            stoch=states["stoch"],
            sample=states["sample"],
            mean=states["mean"],
            std=std.expand_as(states["mean"]).clone(),
            log_density=ppo.log_density(states["sample"], states["mean"], std),
            returns=advantages + states["value"],
            advantages=ppo.standardized(advantages, counts),
            counts=counts,
            **{name: states.get(name) for name in ORIGIN},
        )

    def policy_loss(self, transitions: Transitions, plan: Plan) -> PolicyGradientLoss:
        """Loss of the policy on K steps of time.

        A mean is the action that a search gives from the belief where the plan began. So it is a continuous function of
        what learns, and has a gradient, where a plan was kept, too; which plans were kept is taken as it happened.

        The E environments of one time are given to ``plan`` together, as when they were acted in: what is computed is
        then the same to the last bit, and before the first update every ratio is 1.
        """
        steps = transitions
        means = _planned(steps, torch.stack([plan(*at) for at in _plannable(steps)]))
        ratios = ppo.log_density(steps.sample, means, self.std), steps.log_density
        moved = kl_divergence(Gaussian(steps.mean, steps.std), Gaussian(means, self.std.expand_as(means)))
        return PolicyGradientLoss(
            ppo.clipped_policy_loss(*ratios, steps.advantages, steps.counts, self.clip),
            ppo.mean_of(moved.detach(), steps.counts),
        )

    def value_loss(self, transitions: Transitions) -> Float[Tensor, ""]:
        """Loss of the value network on steps of any shape."""
        values = self.value(Belief(transitions.deter, transitions.stoch))
        return ppo.value_loss(values, transitions.returns, transitions.counts)


def _plannable(steps: Transitions) -> Iterator[tuple[Belief, Rest | None]]:
    """What the plans of each time depended on."""
    rests: Iterable[Rest | None] = repeat(None)
    if steps.rest is not None and steps.rest_counts is not None:
        rests = map(Rest, steps.rest.unbind(), steps.rest_counts.unbind())
    deter = steps.deter if steps.origin_deter is None else steps.origin_deter
    stoch = steps.stoch if steps.origin_stoch is None else steps.origin_stoch
    return zip(map(Belief, deter.unbind(), stoch.unbind()), rests, strict=False)


def _planned(steps: Transitions, plans: Float[Tensor, "time envs horizon action"]) -> Float[Tensor, "time envs action"]:
    """The action of each plan that is due: the first one or, where the plan was kept, a later one."""
    if steps.age is None:
        return plans[:, :, 0]
    due = steps.age.clamp(max=plans.shape[2] - 1)  # the last action of a plan is repeated
    return plans.take_along_dim(due[..., None, None], 2).squeeze(2)


def _check(positive: dict[str, float], **weights: float) -> None:
    for name, number in positive.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {number}.")
    for name, number in weights.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {number}.")
