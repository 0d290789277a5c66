"""Planning with a world model: CEM over the actions themselves (section 5.3 of the paper; PlaNet, algorithm 2)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_dcem.models.belief import Belief
from lit_dcem.models.observation_scale import ObservationScale
from lit_dcem.models.world_model import WorldModel
from lit_dcem.solvers.cem import DCEM
from lit_dcem.types import PolicyState

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class CEMPlanner(nn.Module):
    """Searches the actions of the next H steps for the greatest sum of predicted rewards, for E environments at once.

    With ``warm_start`` a search begins where the last one ended, one step later (iCEM, arXiv 2008.06389, section 3.3):
    its first mean is the last one shifted, and the best actions found last time take part as a candidate. The action
    after the last one is zero then.

    Args:
        solver: searches, at ``temperature: 0`` by CEM (paper: 1,000 candidates, 100 elites, 10 iterations); its bounds
            should be -1 and 1. ``horizon`` of its coloured noise is that of the planner.
        horizon: H, actions of a plan (paper: 12).
        initial_std: standard deviation of the first candidates (PlaNet's code: 1).
        answer: act by the "mean" of the last distribution (paper), or by the "best" candidate met.
        warm_start: begin with the last plan, shifted; else from zero every time (paper).
        sample: imagine with samples of the model's priors (PlaNet's code); else with their means, a little faster.
        precision: of imagination: "float32", or "bfloat16", about twice as fast on processors that know it. The beliefs
            before it and the search around it are in float32.
        compile: compile imagination with `torch.compile`; on a GPU with CUDA graphs. Takes half a minute at first.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        solver: DCEM,
        horizon: int = 12,
        initial_std: float = 1.0,
        answer: Literal["mean", "best"] = "mean",
        warm_start: bool = False,
        sample: bool = True,
        precision: Literal["float32", "bfloat16"] = "float32",
        compile: bool = False,
    ) -> None:
        super().__init__()
        if horizon < 1 or not 0 < initial_std < math.inf:
            rule = "horizon must be at least 1 and initial_std positive and finite"
            raise ValueError(f"{rule}, got {horizon} and {initial_std}.")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be {' or '.join(PRECISIONS)}, got {precision}.")
        self.solver = solver.replace(horizon=horizon)
        self.horizon = horizon
        self.initial_std = initial_std
        self.answer = answer
        self.warm_start = warm_start
        self.sample = sample
        self.precision = precision
        # The mode means CUDA graphs on a GPU, and nothing more than the default one on a CPU.
        compiled = {"mode": "reduce-overhead", "dynamic": False}
        self._returns = torch.compile(imagined_returns, **compiled) if compile else imagined_returns
        self._copy: list[WorldModel] = []  # in a list, so that its weights are not the planner's

    def forward(
        self, model: WorldModel, belief: Belief, first: Bool[Tensor, " envs"], plans: PolicyState | None
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        """The first action of a plan for each environment, and what the next search may begin with.

        Args:
            model: predicts.
            belief: where the plans start, ``[E, size]``.
            first: where an episode begins, and the last plan does not count.
            plans: what the last call returned; None if there was none.
        """
        mean, kept = self._begin(belief, model.rssm.action_dim, first, plans)
        solution = self._solver(kept)(self._objective(model, belief), mean, torch.full_like(mean, self.initial_std))
        answer = solution.best if self.answer == "best" else solution.mean
        actions = answer.unflatten(-1, (self.horizon, -1))[:, 0]
        return actions, {"mean": solution.mean, "best": solution.best} if self.warm_start else {}

    def _begin(
        self, belief: Belief, action_dim: int, first: Tensor, plans: PolicyState | None
    ) -> tuple[Tensor, Tensor | None]:
        """First mean ``[E, H * A]`` and a candidate ``[E, 1, H * A]``, or None."""
        mean = torch.zeros(len(first), self.horizon * action_dim, device=belief.deter.device)
        if not plans:
            return mean, None
        shifted = {name: _shifted(plan.to(mean), action_dim) for name, plan in plans.items()}
        begins = first.to(mean.device).unsqueeze(-1)
        return torch.where(begins, mean, shifted["mean"]), torch.where(begins, mean, shifted["best"]).unsqueeze(1)

    def _solver(self, kept: Tensor | None) -> DCEM:
        return self.solver if kept is None else self.solver.replace(warm_start=kept)

    def _objective(self, model: WorldModel, belief: Belief) -> Callable[[Tensor], Tensor]:
        """Minus the imagined returns of candidates ``[E, N, H * A]``."""
        model, dtype = self._in_precision(model), PRECISIONS[self.precision]
        belief = Belief(*(part.unsqueeze(1).to(dtype) for part in belief))

        def objective(candidates: Tensor) -> Tensor:
            actions = candidates.unflatten(-1, (self.horizon, -1)).permute(2, 0, 1, 3).to(dtype)
            noise = model.rssm.draw_noise(actions) if self.sample else None
            return -self._returns(model, belief, actions, noise).to(candidates.dtype)

        return objective

    def _in_precision(self, model: WorldModel) -> WorldModel:
        """The model, or a copy of it in lower precision that has its weights of now."""
        dtype = PRECISIONS[self.precision]
        if model.rssm.recurrent.weight.dtype == dtype:
            return model
        if not self._copy:
            self._copy.append(copy.deepcopy(model).to(dtype).requires_grad_(False))
        for theirs, ours in zip(self._copy[0].parameters(), model.parameters(), strict=True):
            theirs.copy_(ours)
        return self._copy[0]


def imagined_returns(
    model: WorldModel,
    belief: Belief,
    actions: Float[Tensor, "horizon envs candidates action"],
    noise: Float[Tensor, "horizon envs candidates stoch_dim"] | None,
) -> Float[Tensor, "envs candidates"]:
    """Sums of the rewards that the model predicts for the actions, from beliefs ``[E, 1, size]`` on.

    With noise the stochastic states are samples, without they are means.
    """
    beliefs = model.rssm.imagine(belief, actions, sample=noise is not None, noise=noise)
    return model.reward(beliefs).float().sum(0)


def _shifted(plan: Float[Tensor, "envs dim"], action_dim: int) -> Float[Tensor, "envs dim"]:
    return torch.cat([plan[:, action_dim:], torch.zeros_like(plan[:, :action_dim])], 1)


@dataclass(frozen=True)
class ModelPolicy:
    """A `Policy`: follows what it observes by the world model's posterior, and plans from there."""

    model: WorldModel
    planner: CEMPlanner
    scale: ObservationScale

    def __call__(
        self,
        observations: Float[Tensor, "envs observation"],
        actions: Float[Tensor, "envs action"],
        first: Bool[Tensor, " envs"],
        state: PolicyState | None,
    ) -> tuple[Float[Tensor, "envs action"], PolicyState]:
        weight = self.model.rssm.recurrent.weight
        state = {} if state is None else {name: tensor.to(weight.device) for name, tensor in state.items()}
        first = first.to(weight.device)
        with torch.inference_mode():
            belief = self._belief(state, len(first))
            observations = self.scale(observations.to(weight))
            posterior, _ = self.model.rssm.observe(belief, actions.to(weight), observations, first=first)
            plans = {name: plan for name, plan in state.items() if name not in Belief._fields}
            chosen, plans = self.planner(self.model, posterior.belief, first, plans)
            state = {**posterior.belief._asdict(), **plans}
        # Tensors of inference mode may not take part in training, nor be changed in place.
        return chosen.clone(), {name: tensor.clone() for name, tensor in state.items()}

    def _belief(self, state: PolicyState, num_envs: int) -> Belief:
        return Belief(state["deter"], state["stoch"]) if state else self.model.rssm.initial(num_envs)
