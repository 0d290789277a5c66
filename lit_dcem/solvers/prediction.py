"""What a planner asks of a model, and the returns that models predict for action sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeGuard, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from lit_dcem.solvers.options import require, whole_number

State = Any
"""a tensor, or tensors in tuples, named tuples, lists, dicts or other pytrees that torch knows"""

Risk = float | Literal["mean"]
"""how outcomes become one number: their mean, or the mean of the worst share of them"""


@runtime_checkable
class PlanningModel(Protocol):
    """A model that a `Planner` can plan with: two methods, which predict many states at once.

    A planner calls them with states ``[B, N, ...]`` and actions ``[B, N, A]``: N candidates for each of B problems. Any
    object with these methods will do, such as a module of Python with two functions. A stochastic model draws its own
    random numbers. Let the methods be differentiable in whatever gradients of a plan are to reach.
    """

    def step(self, state: State, action: Tensor) -> State:
        """The states ``[..., ...]`` after the actions ``[..., A]``."""
        ...

    def reward(self, state: State, action: Tensor) -> Tensor:
        """The rewards ``[...]`` of taking the actions ``[..., A]`` in the states before them."""
        ...


@runtime_checkable
class RolloutModel(Protocol):
    """A `PlanningModel` that predicts all steps of a plan in one call, for example in a simulator of its own."""

    def step(self, state: State, action: Tensor) -> State:
        """As in `PlanningModel`."""
        ...

    def reward(self, state: State, action: Tensor) -> Tensor:
        """As in `PlanningModel`."""
        ...

    def rollout(self, state: State, actions: Tensor) -> tuple[Tensor, State]:
        """Rewards ``[B, N, H]`` of the actions ``[B, N, H, A]`` from the states ``[B, ...]``, and the last states.

        The last states ``[B, N, ...]`` are those after all H actions; only the value after the horizon needs them.
        """
        ...


@dataclass(frozen=True)
class Returns:
    """Predicts the return of action sequences: ``sum_t discount^t reward_t + discount^H value(last state)``.

    Args:
        models: an ensemble of models, often a single one.
        value: the return after the horizon from states ``[B, N, ...]``, as ``[B, N]``; by default nothing counts.
        discount: from 0 to 1.
        num_samples: rollouts of each sequence in each model, if the models are stochastic.
        risk: how the outcomes of all samples in all models become one number: their "mean", or the mean of the worst
            share of them, a number above 0 and at most 1 (the conditional value at risk).

    Raises:
        ValueError: an option out of range.
    """

    models: Sequence[PlanningModel]
    value: Callable[[State], Tensor] | None = None
    discount: float = 1.0
    num_samples: int = 1
    risk: Risk = "mean"

    def __post_init__(self) -> None:
        require(len(self.models) > 0, "A planner must have at least one model", 0)
        for model in self.models:
            require(isinstance(model, PlanningModel), "A model must have the methods step and reward", type(model))
        require(0 <= self.discount <= 1, "discount must be between 0 and 1", self.discount)
        require(whole_number("num_samples", self.num_samples) >= 1, "num_samples must be at least 1", self.num_samples)
        is_share = not isinstance(self.risk, str) and 0 < self.risk <= 1
        require(is_share or self.risk == "mean", 'risk must be "mean" or a share above 0 and at most 1', self.risk)

    def __call__(
        self, state: State, actions: Float[Tensor, "batch candidates horizon action"]
    ) -> Float[Tensor, "batch candidates"]:
        """The predicted returns of the actions from the states ``[B, ...]``."""
        outcomes = [self._outcomes(model, state, actions) for model in self.models]
        if self.risk != "mean":
            return mean_of_worst(torch.cat(outcomes, -1), float(self.risk))
        is_one = len(outcomes) == self.num_samples == 1  # which is its own mean
        return outcomes[0].squeeze(-1) if is_one else torch.cat(outcomes, -1).mean(-1)

    def _outcomes(
        self, model: PlanningModel, state: State, actions: Tensor
    ) -> Float[Tensor, "batch candidates samples"]:
        count, horizon = actions.shape[1:3]
        repeated = actions.repeat_interleave(self.num_samples, 1) if self.num_samples > 1 else actions
        rewards, last = _rollout(model, state, repeated, self.value is not None)
        rewards = rewards if rewards.is_floating_point() else rewards.to(actions.dtype)  # flags and counts
        rewards = rewards.to(torch.promote_types(rewards.dtype, torch.float32))  # sums in bfloat16 have three digits
        if self.discount != 1:
            rewards = rewards * self.discount ** torch.arange(horizon, dtype=rewards.dtype, device=rewards.device)
        returns = rewards.sum(-1)
        if self.value is not None:
            after = self.value(last)
            _check_shape("value", after, returns.shape)
            returns = returns + self.discount**horizon * after
        return returns.unflatten(1, (count, self.num_samples))


def mean_of_worst(outcomes: Float[Tensor, "*batch samples"], share: float) -> Float[Tensor, "*batch"]:
    """The mean of the worst share of the outcomes. One on the border counts in part; NaN is the worst of all."""
    outcomes = torch.where(outcomes.isnan(), -math.inf, outcomes)
    size = share * outcomes.shape[-1]
    ranks = torch.arange(outcomes.shape[-1], dtype=outcomes.dtype, device=outcomes.device)
    weights = (size - ranks).clamp(0, 1) / size
    count = math.ceil(size)
    return (outcomes.sort(-1).values[..., :count] * weights[:count]).sum(-1)


def batch_of(state: State) -> Tensor:
    """The first tensor of a state, which shows the batch, the type and the device of the others.

    Raises:
        ValueError: a state without tensors, or with tensors of different batches.
    """
    if isinstance(state, Tensor) and state.dim() > 0:
        return state
    tensors = [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]
    require(bool(tensors), "A state must hold tensors", type(state).__name__)
    sizes = sorted({tuple(tensor.shape[:1]) for tensor in tensors})
    fit = len(sizes) == 1 and len(sizes[0]) == 1
    require(fit, "The tensors of a state must be [B, ...] with the same B", *(list(t.shape) for t in tensors))
    return next((tensor for tensor in tensors if tensor.is_floating_point()), tensors[0])


def _rollout(model: PlanningModel, state: State, actions: Tensor, with_last: bool) -> tuple[Tensor, State]:
    """Rewards ``[B, N, H]``, and the states after all actions where they are needed."""
    if _rolls_out(model):
        rewards, state = model.rollout(state, actions)
    else:
        state, steps, moves = _for_candidates(state, actions.shape[1]), [], actions.unbind(2)
        shape = actions.shape[:2]
        for i, action in enumerate(moves):
            reward = model.reward(state, action)
            _check_shape("reward", reward, shape)
            steps.append(reward)
            if with_last or i + 1 < len(moves):
                state = model.step(state, action)
        rewards = torch.stack(steps, -1)
    _check_shape("rollout", rewards, actions.shape[:-1])
    return rewards, state


def _rolls_out(model: PlanningModel) -> TypeGuard[RolloutModel]:
    """As ``isinstance(model, RolloutModel)``, which takes as long as several operations of torch."""
    return getattr(model, "rollout", None) is not None


def _for_candidates(state: State, count: int) -> State:
    """The states ``[B, ...]`` as ``[B, N, ...]``, without copying them."""

    def expand(leaf: Any) -> Any:
        return leaf.unsqueeze(1).expand(-1, count, *leaf.shape[1:]) if isinstance(leaf, Tensor) else leaf

    return expand(state) if isinstance(state, Tensor) else pytree.tree_map(expand, state)


def _check_shape(name: str, numbers: Tensor, shape: torch.Size) -> None:
    if isinstance(numbers, Tensor) and numbers.shape == shape:  # of each step, so write no message before it is needed
        return
    must = f"{name} of a model must return numbers of shape {list(shape)}"
    rule = f"{must}, for the {shape[0]} rows of the state, without a last dimension of its own"
    require(False, rule, _described(numbers))


def _described(numbers: Any) -> str:
    return str(list(numbers.shape)) if isinstance(numbers, Tensor) else type(numbers).__name__
