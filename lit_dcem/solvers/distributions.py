"""What candidates are drawn from, and how it is fitted to weighted candidates.

A `Distribution` says how; what changes from one iteration to the next travels in a state, a NamedTuple of tensors with
a row for each problem. A distribution of your own, a Gaussian with one standard deviation for all dimensions::

    class Isotropic(Distribution):
        def begin(self, mean, std):
            return Moments(mean, std.mean(1, keepdim=True).expand_as(mean))

        def sample(self, state, noise):
            return state.mean.unsqueeze(1) + state.std.unsqueeze(1) * noise

        def fit(self, state, candidates, weights):
            shares = shares_of(weights).unsqueeze(-1)
            mean = (shares * candidates).sum(1)
            variance = (shares * (candidates - mean.unsqueeze(1)).square()).sum(1).mean(1, keepdim=True)
            return Moments(mean, variance.sqrt().expand_as(mean))
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.solvers.options import require, whole_number


class Moments(NamedTuple):
    """State of a distribution that is known by its mean and standard deviation."""

    mean: Float[Tensor, "batch dim"]
    std: Float[Tensor, "batch dim"]


class Distribution(ABC):
    """A family of distributions over points ``[B, D]``, one for each of B independent problems.

    A state is a NamedTuple of tensors, with a row for each problem, and of numbers that all problems share. It has a
    field ``mean``, to which the solver clamps, and a field or property ``std`` with the standard deviation of each
    dimension. A method ``check_dim(dim)`` may raise a ValueError if it does not fit points of ``dim`` dimensions.
    """

    takes_negative_weights = False
    """whether ``fit`` takes the weights of ``LogRank(negative=True)``"""

    @abstractmethod
    def begin(self, mean: Float[Tensor, "batch dim"], std: Float[Tensor, "batch dim"]) -> Any:
        """The first state."""

    @abstractmethod
    def sample(self, state: Any, noise: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch n dim"]:
        """Candidates made of standard normal numbers, which may have one row for all problems."""

    @abstractmethod
    def fit(self, state: Any, candidates: Float[Tensor, "batch n dim"], weights: Float[Tensor, "batch n"]) -> Any:
        """The next state. The ratios of the weights count (`shares_of`); broken candidates have weight 0.

        Weights are at least 0, unless the distribution takes negative ones.
        """

    def answer(self, state: Any) -> Float[Tensor, "batch dim"]:
        """The point that stands for the distribution, by default its mean."""
        return state.mean


def shares_of(weights: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """The weights over their sum, as only their ratios matter; zeros where all are 0."""
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1)


@dataclass(frozen=True)
class Gaussian(Distribution):
    r"""Independent normal numbers, fitted by maximum likelihood (section 3 of the paper).

    .. math:: \mu_\mathrm{new} = \sum_i \frac{w_i}{W} x_i, \qquad W = \sum_i w_i, \qquad
        \sigma^2_\mathrm{new} = \max\left(\sigma_\mathrm{min}^2,\ \sum_i \frac{w_i}{W} (x_i - \mu_\mathrm{new})^2\right)

    Args:
        min_std: lower bound of the standard deviation after a fit.
        momentum: weight of the old mean and standard deviation in the new ones, in [0, 1).
        fixed_std: fit the mean alone, as MPPI does.
        unbiased: divide the squared deviations of k hard elites by k - 1 instead of k, as ``torch.std`` does, so that a
            search with few elites narrows more slowly. With weights w, k - 1 becomes ``sum w - sum w^2 / sum w``. The
            standard deviation of one elite is 0 either way.

    Raises:
        ValueError: an option out of range.
    """

    min_std: float = 0.0
    momentum: float = 0.0
    fixed_std: bool = False
    unbiased: bool = False

    def __post_init__(self) -> None:
        check_fit(self.min_std, self.momentum)

    def begin(self, mean: Tensor, std: Tensor) -> Moments:
        return Moments(mean, std)

    def sample(self, state: Moments, noise: Tensor) -> Tensor:
        return torch.addcmul(state.mean.unsqueeze(1), state.std.unsqueeze(1), noise)

    def fit(self, state: Moments, candidates: Tensor, weights: Tensor) -> Moments:
        shares = shares_of(weights).unsqueeze(-1)
        mean = (shares * candidates).sum(1)
        return self.smoothed(state, mean, state.std if self.fixed_std else self._std(mean, candidates, shares))

    def smoothed(self, state: Moments, mean: Tensor, std: Tensor) -> Moments:
        """The fitted mean and standard deviation with the momentum of the old ones."""
        if self.momentum > 0:
            mean, std = torch.lerp(mean, state.mean, self.momentum), torch.lerp(std, state.std, self.momentum)
        return Moments(mean, std)

    def floor(self, dtype: torch.dtype) -> float:
        """Lower bound of a variance.

        The square root has an infinite slope at zero; below the floor the gradient is zero instead. The floor is where
        squares of deviations would become denormal numbers, which are slow.
        """
        return max(self.min_std**2, math.sqrt(torch.finfo(dtype).tiny))

    def _std(self, mean: Tensor, candidates: Tensor, shares: Tensor) -> Tensor:
        variance = (shares * (candidates - mean.unsqueeze(1)).square()).sum(1)
        if self.unbiased:
            variance = variance / (1 - shares.square().sum(1)).clamp_min(torch.finfo(variance.dtype).eps)
        return variance.clamp_min(self.floor(variance.dtype)).sqrt()


class Choices(NamedTuple):
    """State of `Categorical`."""

    mean: Float[Tensor, "batch dim"]
    """probabilities, each block of K sums to 1"""

    @property
    def std(self) -> Float[Tensor, "batch dim"]:
        """Of each entry of a one-hot candidate."""
        return (self.mean * (1 - self.mean)).clamp_min(0).sqrt()


@dataclass(frozen=True)
class Categorical(Distribution):
    """Independent choices of one of K values each: for integers, switches and designs.

    A point has D = M * K entries: M one-hot blocks of K. The search begins with the probabilities that are proportional
    to ``exp(mean)``, so from zero all choices are equally likely; its ``std`` does not count. Candidates are one-hot.
    The answer is the most likely choice of each block, one-hot too; its gradient is that of the probabilities
    (straight-through, Bengio et al. 2013). With noise that depends on time, a step must hold whole blocks.

    Args:
        num_choices: K.
        momentum: weight of the old probabilities in the new ones, in [0, 1).
        min_probability: of each choice after a fit, below 1 / K, so that none is lost for good.
        temperature: if it is above 0, gradients also pass through the candidates, as if they were soft choices at this
            temperature (Gumbel-softmax, straight-through; Jang et al. 2017).

    Raises:
        ValueError: an option out of range.
    """

    num_choices: int
    momentum: float = 0.0
    min_probability: float = 0.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        require(whole_number("num_choices", self.num_choices) >= 2, "num_choices must be at least 2", self.num_choices)
        check_fit(0.0, self.momentum)
        rule = f"min_probability must be at least 0 and below 1 / num_choices = {1 / self.num_choices:.4g}"
        require(0 <= self.min_probability < 1 / self.num_choices, rule, self.min_probability)
        require(0 <= self.temperature < math.inf, "temperature must be at least 0 and finite", self.temperature)

    def begin(self, mean: Tensor, std: Tensor) -> Choices:
        return Choices(torch.softmax(self._blocks(mean), -1).flatten(-2))

    def sample(self, state: Choices, noise: Tensor) -> Tensor:
        tiny = torch.finfo(noise.dtype).tiny
        uniform = (0.5 * torch.erfc(-noise / math.sqrt(2))).clamp(tiny, 1 - torch.finfo(noise.dtype).eps)
        logits = self._blocks(state.mean).clamp_min(tiny).log().unsqueeze(1) - (-self._blocks(uniform).log()).log()
        chosen = _one_hot(logits)
        if self.temperature > 0:
            soft = torch.softmax(logits / self.temperature, -1)
            chosen = chosen + (soft - soft.detach())  # exactly zero, so that choices stay one-hot
        return chosen.flatten(-2)

    def fit(self, state: Choices, candidates: Tensor, weights: Tensor) -> Choices:
        probabilities = (shares_of(weights).unsqueeze(-1) * candidates).sum(1)
        if self.momentum > 0:
            probabilities = torch.lerp(probabilities, state.mean, self.momentum)
        if self.min_probability > 0:
            spared = self.num_choices * self.min_probability
            probabilities = self.min_probability + (1 - spared) * probabilities
        return Choices(probabilities)

    def answer(self, state: Choices) -> Tensor:
        soft = self._blocks(state.mean)
        return (_one_hot(soft) + (soft - soft.detach())).flatten(-2)

    def check_dim(self, dim: int) -> None:
        require(dim % self.num_choices == 0, "num_choices must divide the size of a point", self.num_choices, dim)

    def _blocks(self, points: Tensor) -> Tensor:
        return points.unflatten(-1, (-1, self.num_choices))


def check_fit(min_std: float, momentum: float) -> None:
    """Raise a ValueError for options of a fit that are out of range."""
    require(0 <= momentum < 1, "momentum must be at least 0 and below 1", momentum)
    require(0 <= min_std < math.inf, "min_std must be at least 0 and finite", min_std)


def _one_hot(scores: Tensor) -> Tensor:
    return torch.zeros_like(scores).scatter(-1, scores.detach().argmax(-1, keepdim=True), 1)
