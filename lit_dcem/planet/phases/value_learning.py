"""Learning of the value at a planner's horizon by TD(lambda) on a replay, and of how much to trust it."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lit_dcem.planet.data.environment_data import check_counts
from lit_dcem.planet.data.episode import Sequences
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.model.world_model import WorldModel

STRIDE = 4
"""rows from one measured belief to the next"""
NUM_MOMENTS = 5


def lambda_returns(
    rewards: Float[Tensor, "time batch"],
    values: Float[Tensor, "*heads time batch"],
    first: Bool[Tensor, "time batch"],
    terminated: Float[Tensor, "time batch"],
    discount: float = 0.99,
    td_lambda: float = 0.95,
) -> Float[Tensor, "*heads time batch"]:
    r"""TD(lambda) targets of the value of each row, in sequences that run across the ends of episodes.

    With reward t that came with row t (Sutton & Barto, 2nd ed., eq. 12.18):

    .. math:: G_t = r_{t+1} + \gamma \left((1 - \lambda) V_{t+1} + \lambda G_{t+1}\right)

    Where the next row is first in an episode, or there is none, G is V: the value stands for what was cut off. Where
    the task is over both are 0.

    Args:
        rewards: reward t came with row t; those of first rows do not count.
        values: V of each row, of one network or of several.
        first: where an episode begins.
        terminated: 1 where the task is over.
        discount: of the rewards of later steps.
        td_lambda: 0 looks one step ahead, 1 as far as the sequence goes.
    """
    values = values * (1 - terminated)
    targets, following = [values[..., -1, :]], values[..., -1, :]
    for t in range(len(rewards) - 2, -1, -1):
        ahead = torch.lerp(values[..., t + 1, :], following, td_lambda)
        following = torch.where(first[t + 1], values[..., t, :], rewards[t + 1] + discount * ahead)
        targets.append(following)
    return torch.stack(targets[::-1], -2)


def told(first: Bool[Tensor, "time batch"], terminated: Float[Tensor, "time batch"]) -> Bool[Tensor, "time batch"]:
    """Rows with a known future: the last row of an episode or sequence has one only where the task is over."""
    goes_on = torch.cat([~first[1:], torch.zeros_like(first[:1])])
    return goes_on | (terminated > 0)


class Windows(NamedTuple):
    """K + 1 beliefs from each of N rows on: its posterior, and priors 1 to K steps later under the actions taken."""

    belief: Belief
    """``[K + 1, N, size]``"""
    times: Int[Tensor, "steps windows"]
    columns: Int[Tensor, " windows"]
    within: Bool[Tensor, "steps windows"]
    """still in the same episode"""


@torch.no_grad()
def imagined_windows(
    model: WorldModel,
    beliefs: Belief,
    sequences: Sequences,
    times: Int[Tensor, " windows"],
    columns: Tensor,
    steps: int,
) -> Windows:
    """What the model believes up to some steps after posteriors ``[T, B, size]``, without their observations."""
    belief = Belief(*(part[times, columns] for part in beliefs))
    times = times + torch.arange(steps + 1, device=times.device).unsqueeze(1)
    actions = sequences.actions[times[1:], columns].to(belief.deter)
    imagined = [belief, *model.rssm.imagine_steps(belief, actions, model.rssm.draw_noise(actions))]
    belief = Belief(*(torch.stack(parts) for parts in zip(*imagined, strict=True)))
    begun = sequences.first[times, columns]
    return Windows(belief, times, columns, (begun.cumsum(0) - begun[0].int()) == 0)


class ValueLearning(nn.Module):
    r"""Learns the value of a planner from all that a replay holds, on beliefs as a planner meets them.

    .. math:: G_t = r_{t+1} + \gamma \left((1 - \lambda) V'_{t+1} + \lambda G_{t+1}\right), \qquad
        \mathrm{loss} = \mathrm{mean}\ \tfrac12 \left(\frac{V_t - G_t}{\mathrm{scale}}\right)^2

    Targets are `lambda_returns` of V', a slow copy of the ensemble, each network's its own. The value is fitted to them
    at posteriors and, with the same target, at samples of priors up to ``imagined_steps`` later: what a search asks
    about. No gradient reaches the world model.

    A value that is wrong somewhere ruins a search, which goes there. So it weighs as much as it explains: on episodes
    that it is not trained on, the variance of the discounted returns-to-go that its estimate explains from beliefs
    imagined over the planner's whole horizon, under the actions that were taken.

    Args:
        discount: of the rewards of later decisions.
        td_lambda: lambda of the targets.
        imagined_steps: K, at most the length of a sequence less one.
        num_windows: posteriors an update, drawn at random, that K priors each are imagined from.
        target_decay: of the slow copy, an update.
        held_back: N; every Nth episode is for the accuracy alone, and the value has no weight before the first of
            them. Choose N so that this is not a seed episode: random actions leave little to explain.
        measured_episodes: how many of the latest of them are measured.
        measure_interval: in updates.
        smoothing: how far the weight moves towards the latest accuracy, from 0 to 1.
        options: of the optimizer, for the value's group, by name.

    Raises:
        ValueError: an option out of range.
    """

    accuracy: Tensor

    def __init__(
        self,
        discount: float = 0.99,
        td_lambda: float = 0.95,
        imagined_steps: int = 6,
        num_windows: int = 32,
        target_decay: float = 0.99,
        held_back: int = 10,
        measured_episodes: int = 5,
        measure_interval: int = 100,
        smoothing: float = 0.2,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        shares = {"discount": discount, "td_lambda": td_lambda, "target_decay": target_decay, "smoothing": smoothing}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {share}.")
        check_counts(num_windows=num_windows, measured_episodes=measured_episodes, measure_interval=measure_interval)
        if held_back < 2 or imagined_steps < 0:
            rule = "held_back must be at least 2 and imagined_steps at least 0"
            raise ValueError(f"{rule}, got {held_back} and {imagined_steps}.")
        self.discount, self.td_lambda, self.target_decay, self.smoothing = shares.values()
        self.imagined_steps, self.num_windows, self.held_back = imagined_steps, num_windows, held_back
        self.measured_episodes, self.measure_interval = measured_episodes, measure_interval
        self.options = options or {}
        self.register_buffer("accuracy", torch.zeros(()))

    def measured(self, num_episodes: int) -> list[int]:
        """Which episodes of a replay to measure the accuracy on."""
        return list(range(self.held_back - 1, num_episodes, self.held_back))[-self.measured_episodes :]

    def begin(self, value: ValueEnsemble) -> None:
        """The slow copy is as the ensemble from here on."""
        self.target = copy.deepcopy(value).requires_grad_(False)

    @torch.no_grad()
    def follow(self, value: ValueEnsemble) -> None:
        """Move the slow copy towards the ensemble: once an update."""
        for slow, fast in zip(self.target.parameters(), value.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.target_decay)

    def loss(
        self, value: ValueEnsemble, model: WorldModel, posteriors: Belief, sequences: Sequences
    ) -> Float[Tensor, ""]:
        """Half the mean squared error, in units of the value's scale, at beliefs of the sequences."""
        posteriors = Belief(*(part.detach() for part in posteriors))
        length, batch = sequences.rewards.shape
        steps = min(self.imagined_steps, length - 1)
        count, device = (self.num_windows,), sequences.first.device
        starts = torch.randint(length - steps, count, device=device), torch.randint(batch, count, device=device)
        windows = imagined_windows(model, posteriors, sequences, *starts, steps)
        at = windows.times, windows.columns
        counts = windows.within & told(sequences.first, sequences.terminated)[at] & ~self._held(sequences)[at]
        targets = self._targets(posteriors, sequences)[:, at[0], at[1]]
        errors = (value(windows.belief) - targets) / value.scale
        errors = errors.square().masked_fill(~counts, 0)
        return 0.5 * errors.mean(0).sum() / counts.sum().clamp(min=1)

    @torch.no_grad()
    def _targets(self, posteriors: Belief, sequences: Sequences) -> Float[Tensor, "heads time batch"]:
        ends = sequences.first, sequences.terminated
        return lambda_returns(sequences.rewards, self.target(posteriors), *ends, self.discount, self.td_lambda)

    def _held(self, sequences: Sequences) -> Bool[Tensor, "time batch"]:
        return (sequences.episode + 1) % self.held_back == 0

    @torch.no_grad()
    def moments(
        self, value: ValueEnsemble, model: WorldModel, posteriors: Belief, sequences: Sequences, horizon: int
    ) -> Float[Tensor, " moments"]:
        """What an accuracy is made of: count, sums and sums of squares of returns-to-go and of the value's errors.

        Beliefs are imagined over the horizon from every few rows. Returns-to-go, of whole episodes, end in the slow
        copy's value where an episode was cut off.
        """
        length, batch = sequences.rewards.shape
        steps = min(horizon, length - 1)
        times = torch.arange(0, length - steps, STRIDE, device=sequences.first.device)
        starts = times.repeat_interleave(batch), torch.arange(batch, device=times.device).repeat(len(times))
        windows = imagined_windows(model, posteriors, sequences, *starts, steps)
        at = windows.times[-1], windows.columns
        ends = sequences.first, sequences.terminated
        returns = lambda_returns(sequences.rewards, self.target(posteriors).mean(0), *ends, self.discount, 1.0)[at]
        errors = returns - value.estimate(Belief(*(part[-1] for part in windows.belief)))
        counts = windows.within[-1] & told(*ends)[at]
        counted = [each[counts].cpu().double() for each in (torch.ones_like(returns), returns, errors)]
        sums = [counted[0].sum(), *(each.pow(power).sum() for each in counted[1:] for power in (1, 2))]
        return torch.stack(sums).to(returns)

    def trust(self, value: ValueEnsemble, moments: Float[Tensor, " moments"]) -> None:
        """Move the value's weight towards its accuracy; without effect if the returns do not vary."""
        count, returns, returns_squared, errors, errors_squared = moments.tolist()
        if count == 0:
            return
        spread = returns_squared / count - (returns / count) ** 2
        error = errors_squared / count - (errors / count) ** 2
        if spread > 0 and math.isfinite(error):
            self.accuracy.fill_(1 - error / spread)
            value.weight.lerp_(self.accuracy.clamp(0, 1), self.smoothing)
