"""Planning in TorchRL's environments and world models, with any solver.

Use it as a policy, or ask it for plans::

    planner = TorchRLPlanner(env, DCEM(), horizon=12)
    env.rollout(100, planner)             # a planner is a policy
    plan = planner.plan(tensordict)       # all actions, with gradients to the parameters of the environment

It stands where TorchRL's own ``CEMPlanner`` and ``MPPIPlanner`` do, and scores candidates as they do: the sum of the
rewards up to the first ``done``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_dcem.solvers.distributions import Gaussian
from lit_dcem.solvers.options import require
from lit_dcem.solvers.planning import Memory, Plan, Planner
from lit_dcem.solvers.sampling_solver import SamplingSolver
from lit_dcem.solvers.solver import Solver

try:
    from tensordict import NestedKey, TensorDictBase  # pyright: ignore[reportMissingImports]
    from torchrl.data import Bounded, Unbounded  # pyright: ignore[reportMissingImports]
    from torchrl.envs import EnvBase  # pyright: ignore[reportMissingImports]
    from torchrl.modules.planners.common import MPCPlannerBase  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("lit_dcem.adapters.torchrl needs TorchRL: pip install torchrl.") from error


class Situation(NamedTuple):
    """States of an environment, as the state of a `Planner`."""

    like: Float[Tensor, "batch 0"]
    """shows the planner the number of states, and the type and the device of actions"""
    tensordict: TensorDictBase
    """of batch size ``[B]``, or ``[B, N]`` for candidates"""


class TorchRLPlanner(MPCPlannerBase):
    """A planner of TorchRL that searches with a `Solver`: a module that writes the first action of a plan.

    Gradients of the action reach the parameters of the environment (and of ``value``) if the solver is differentiable
    and grad is enabled. Collectors disable it.

    Args:
        env: predicts; a `ModelBasedEnvBase`, or any environment that is not locked to a batch size and steps states
            that it finds in the tensordict. Its action is one continuous tensor. Bounds are those of its spec.
        solver: searches. `DCEM(temperature=0.0)` is the CEM of TorchRL's planner.
        horizon: H, actions in a plan.
        value: writes ``"state_value"``, the return after the last step, into a tensordict: a `ValueOperator`. By
            default nothing counts after the horizon.
        reward_key: of the one reward of a step.
        action_key: of the action.
        unbiased: refit standard deviations with k - 1 elites, as TorchRL's ``CEMPlanner``, in solvers that fit a
            `Gaussian`; with False, as the solver says.
        options: of `Planner`, such as ``std``, ``knots``, ``answer`` and ``discount``.

    Raises:
        ValueError: an environment that is locked to a batch size, other actions, or an option out of range.
    """

    def __init__(
        self,
        env: EnvBase,
        solver: Solver,
        horizon: int,
        *,
        value: Callable[[TensorDictBase], TensorDictBase] | None = None,
        reward_key: NestedKey = ("next", "reward"),
        action_key: NestedKey = "action",
        unbiased: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(env, action_key)
        spec = env.action_spec_unbatched
        rule = "The action of an environment must be one continuous tensor"
        require(isinstance(spec, (Bounded, Unbounded)) and spec.dtype.is_floating_point, rule, spec)
        self.imagination = Imagination(env, value, reward_key, action_key)
        bounds = {} if isinstance(spec, Unbounded) else dict(zip(("lower", "upper"), _bounds(spec), strict=True))
        then = None if value is None else self.imagination.value_of
        sizes = horizon, spec.shape.numel()
        solver = with_unbiased_std(solver) if unbiased else solver
        self.planner = Planner(self.imagination, solver, *sizes, value=then, **{**bounds, **options})

    def planning(self, td: TensorDictBase) -> Tensor:
        """The first actions ``[*batch, *action]`` of plans from the states ``[*batch]``; `forward` writes them."""
        action = self.plan(td).actions[:, 0]
        return action.reshape(*td.batch_size, *self.imagination.action_shape)

    def plan(self, tensordict: TensorDictBase, memory: Memory | None = None) -> Plan:
        """Plan from states ``[*batch]``, which count as B problems, with gradients if grad is enabled.

        Args:
            tensordict: what the environment steps from, without the action.
            memory: of the last plan for the same states, one step before, to begin warm.
        """
        flat = tensordict.reshape(-1)
        spec = self.imagination.env.action_spec_unbatched
        like = torch.zeros(len(flat), 0, dtype=spec.dtype, device=flat.device or spec.device)
        return self.planner(Situation(like, flat), memory)


class Imagination:
    """An environment of TorchRL as a `RolloutModel`."""

    def __init__(
        self,
        env: EnvBase,
        value: Callable[[TensorDictBase], TensorDictBase] | None,
        reward_key: NestedKey,
        action_key: NestedKey,
    ) -> None:
        self.env, self._value, self.reward_key, self.action_key = env, value, reward_key, action_key
        self.action_shape = env.action_spec_unbatched.shape
        ends = [key for key in env.done_keys if (key if isinstance(key, str) else key[-1]) == "done"]
        self.done_keys = ["done"] if "done" in ends else ends

    def step(self, state: Situation, action: Tensor) -> Situation:
        """The states after actions ``[..., A]``."""
        return Situation(state.like, self.env.step_mdp(self._stepped(state.tensordict, action)))

    def reward(self, state: Situation, action: Tensor) -> Tensor:
        """The rewards ``[...]`` of actions ``[..., A]``."""
        return self._reward(self._stepped(state.tensordict, action))

    def rollout(self, state: Situation, actions: Float[Tensor, "batch n horizon action"]) -> tuple[Tensor, Any]:
        """Rewards ``[B, N, H]``, zero after the end of an episode; and the last states, with where it has ended."""
        now = state.tensordict.unsqueeze(1).expand(actions.shape[:2]).to_tensordict()
        over, rewards = torch.zeros(actions.shape[:2], dtype=torch.bool, device=actions.device), []
        for action in actions.unbind(2):
            after = self._stepped(now, action)
            rewards.append(self._reward(after).masked_fill(over, 0))
            over = over | self._is_over(after)
            now = self.env.step_mdp(after)
        return torch.stack(rewards, -1), (now, over)

    def value_of(self, last: tuple[TensorDictBase, Bool[Tensor, "batch n"]]) -> Float[Tensor, "batch n"]:
        """The returns after the last states of a rollout, zero where the episode has ended."""
        assert self._value is not None
        states, over = last
        return self._value(states).get("state_value").reshape(over.shape).masked_fill(over, 0)

    def _stepped(self, states: TensorDictBase, action: Tensor) -> TensorDictBase:
        return self.env.step(states.set(self.action_key, action.reshape(*action.shape[:-1], *self.action_shape)))

    def _reward(self, after: TensorDictBase) -> Tensor:
        reward = after.get(self.reward_key)
        rule = f"The reward {self.reward_key} must be one number for each state"
        require(reward.shape[after.ndim :].numel() == 1, rule, list(reward.shape[after.ndim :]))
        return reward.reshape(after.batch_size)

    def _is_over(self, after: TensorDictBase) -> Bool[Tensor, "batch n"]:
        ends = [after.get(("next", *((key,) if isinstance(key, str) else key))) for key in self.done_keys]
        return torch.stack([end.flatten(after.ndim).all(-1) for end in ends]).any(0)


def with_unbiased_std(solver: Solver) -> Solver:
    """The solver with an unbiased standard deviation, if it fits a `Gaussian`."""
    options = solver.options if isinstance(solver, SamplingSolver) else {}
    if "unbiased" in options:
        return solver.replace(unbiased=True)
    distribution = options.get("distribution")
    fits = isinstance(distribution, Gaussian)
    return solver.replace(distribution=replace(distribution, unbiased=True)) if fits else solver


def _bounds(spec: Any) -> tuple[Tensor, Tensor]:
    return spec.space.low.flatten(), spec.space.high.flatten()
