"""Planning with any model: search for the actions of the next H steps with the highest predicted return.

A model is anything that can step a state and reward an action; it takes neither Lightning nor a learned model. A point
mass that moves to the origin::

    import torch
    from lit_dcem import DCEM, Planner

    class PointMass:
        def step(self, state, action):  # states [..., 2]: position and velocity; actions [..., 1]: force
            position, velocity = state.unbind(-1)
            return torch.stack([position + 0.1 * velocity, velocity + 0.1 * action[..., 0]], -1)

        def reward(self, state, action):
            return -state.square().sum(-1) - 0.1 * action.square().sum(-1)

    planner = Planner(PointMass(), DCEM(temperature=0.0), horizon=20, action_dim=1, lower=-1.0, upper=1.0)
    plan = planner(torch.tensor([[1.0, 0.0]]))  # one problem; plan.actions is [1, 20, 1]

To control something, carry out the first action, and hand the memory to the next call, which starts warm::

    action, memory = planner.act(state, memory)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_dcem.solvers.decoding import Decoder, actions_of, check_decoder
from lit_dcem.solvers.knots import Interpolation, Knots, later
from lit_dcem.solvers.options import require, whole_number
from lit_dcem.solvers.prediction import PlanningModel, Returns, Risk, State, batch_of
from lit_dcem.solvers.ranking import finite_rows
from lit_dcem.solvers.search import Answer
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.start import Start, bounded, solve
from lit_dcem.solvers.types import Bound, Objective, Solution


class Memory(NamedTuple):
    """What a planner needs to know of its last plans. Rows of NaN count as no plan."""

    mean: Float[Tensor, "batch dim"]
    """mean of the last search"""
    best: Float[Tensor, "batch dim"]
    """best point of the last search"""
    plan: Float[Tensor, "batch horizon action"]
    """the last plan"""

    def without(self, ended: Bool[Tensor, " batch"]) -> Memory:
        """The memory without the plans of problems that have ended, which begin anew."""
        return Memory(*(torch.where(ended.view(-1, *[1] * (each.dim() - 1)), math.nan, each) for each in self))


@dataclass(frozen=True)
class Plan:
    """What a planner found for each of the B problems; NaN where no candidate has a finite return."""

    actions: Float[Tensor, "batch horizon action"]
    value: Float[Tensor, " batch"]
    """the return predicted for the actions"""
    solution: Solution
    """of the search, whose points are knots, time first, or latent vectors, and whose values are minus returns"""
    memory: Memory
    """for the next call, one step later; without gradients"""


class Planner(nn.Module):
    r"""Plans for B problems at once with a solver, in any `PlanningModel`: ``planner(state, memory) -> Plan``.

    .. math:: \hat u = \arg\max_u \sum_{t=0}^{H-1} \gamma^t r(s_t, u_t) + \gamma^H V(s_H), \qquad
        s_{t+1} = \mathrm{step}(s_t, u_t)

    Gradients flow through the search to whatever the models depend on, if grad is enabled and the solver is
    differentiable. Models, ``value`` and ``proposals`` that are modules are submodules of the planner.

    Args:
        model: predicts; or several models, an ensemble.
        solver: searches. The planner sets its bounds, and the ``horizon`` of its noise.
        horizon: H, actions in a plan.
        action_dim: A, numbers in an action.
        lower: bound of the actions, a number or one for each dimension; by default that of the solver.
        upper: as ``lower``, and above it.
        std: standard deviation of the first candidates, a number or numbers that broadcast against ``[knots, A]``; by
            default half the distance between the bounds, or 1 where there are none.
        knots: number of knots in time to search over, instead of H actions.
        interpolation: from knots to actions, "linear" or "constant".
        answer: plan the "mean" of the last distribution, or the "best" point evaluated.
        warm_start: begin from the memory, one step later: from its mean, with its best point as a candidate (iCEM,
            arXiv 2008.06389, section 3.3). Otherwise, and without memory, begin in the middle of the bounds, or from 0.
        keep_plans: follow the rest of the last plan unless a new one has a higher predicted return.
        value: the return after the horizon from states ``[B, N, ...]``, as ``[B, N]``.
        proposals: action sequences ``[B, M, H, A]`` for states ``[B, ...]``, for example a policy's, which are
            candidates of the first iteration. It draws the others, so M must be smaller, and so must M + 1 with a warm
            start.
        num_samples: rollouts of each candidate in each model, if the models are stochastic.
        risk: maximise the "mean" over samples and models, or the mean of the worst share, above 0 and at most 1.
        discount: of a step, from 0 to 1.
        decoder: search its latent vectors instead of actions; ``lower``, ``upper`` and ``std`` are then theirs, and a
            warm start is from the last vectors. Learn it with `EmbeddingLoss` on `objective` and a traced solution.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        model: PlanningModel | Sequence[PlanningModel],
        solver: Solver,
        horizon: int,
        action_dim: int,
        *,
        lower: Bound = None,
        upper: Bound = None,
        std: Bound = None,
        knots: int | None = None,
        interpolation: Interpolation = "linear",
        answer: Answer = "mean",
        warm_start: bool = True,
        keep_plans: bool = False,
        value: Callable[[State], Tensor] | None = None,
        proposals: Callable[[State], Tensor] | None = None,
        num_samples: int = 1,
        risk: Risk = "mean",
        discount: float = 1.0,
        decoder: Decoder | None = None,
    ) -> None:
        super().__init__()
        self.action_dim = whole_number("action_dim", action_dim)
        require(self.action_dim >= 1, "action_dim must be at least 1", action_dim)
        require(answer in get_args(Answer), f"answer must be {' or '.join(get_args(Answer))}", answer)
        self.answer, self.warm_start, self.keep_plans = answer, warm_start, keep_plans
        models = tuple(model) if isinstance(model, (Sequence, nn.ModuleList)) else (model,)
        self.returns = Returns(models, value, discount, num_samples, risk)
        self.parts = nn.ModuleList(part for part in (*models, value) if isinstance(part, nn.Module))
        self.proposals = proposals
        self.knots = Knots(horizon, horizon if knots is None else knots, interpolation)
        self.decoder = decoder
        if decoder is not None:
            check_decoder(decoder, self.knots, self.action_dim, proposals is not None)
        steps, size = (self.knots.num_knots, self.action_dim) if decoder is None else (1, decoder.latent_dim)
        self.solver = bounded(solver, steps, size, lower, upper).with_horizon(steps)
        self.start = Start(self.solver, steps, size, std)

    def forward(self, state: State, memory: Memory | None = None, generator: torch.Generator | None = None) -> Plan:
        """Plan from states.

        Args:
            state: tensors ``[B, ...]``.
            memory: of the last plan for the same B problems, one step before.
            generator: the source of the solver's noise; by default the solver's own, or torch's global one. Stochastic
                models draw from where they choose.

        Raises:
            ValueError: a shape that does not fit.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.solver.is_differentiable):
            objective = self.objective(state)
            mean, known = self._begin(state, memory)
            solver = self.solver if generator is None else self.solver.with_generator(generator)
            solution = solve(solver, objective, mean, self.start.std.to(mean).expand_as(mean), known)
            is_best = self.answer == "best"
            actions = self._actions(state, solution.best if is_best else solution.mean)
            value = -(solution.best_value if is_best else solution.value)
            if memory is not None and self.keep_plans:
                actions, value = self._choose(state, actions, value, later(memory.plan).to(actions))
        seen = Memory(solution.mean.detach(), solution.best.detach(), actions.detach())
        return Plan(actions, value, solution, seen)

    @torch.no_grad()
    def act(
        self, state: State, memory: Memory | None = None, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "batch action"], Memory]:
        """The first action of a plan, and the memory for the next call; as ``planner(...)``, without gradients."""
        plan = self(state, memory, generator)
        return plan.actions[:, 0], plan.memory

    def objective(self, state: State) -> Objective:
        """Minus the predicted returns of points ``[B, N, D]``, knots with time first or latent vectors."""
        dtype = _like(state).dtype
        return lambda points: -self.returns(state, self._actions(state, points).to(dtype))

    def _actions(self, state: State, points: Float[Tensor, "batch *n dim"]) -> Float[Tensor, "batch *n horizon action"]:
        return self.knots.actions(points) if self.decoder is None else actions_of(self.decoder, state, points)

    def _later(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        return self.knots.advance(points) if self.decoder is None else points

    def _begin(self, state: State, memory: Memory | None) -> tuple[Tensor, Tensor | None]:
        """The first mean ``[B, D]``, and points ``[B, M, D]`` that are among the first candidates."""
        like = _like(state)
        mean, known = self.start.mean.to(like).expand(len(like), -1), []
        if memory is not None:
            rule = f"memory must be of a plan for the same {len(like)} problems"
            require(memory.mean.shape == mean.shape, rule, list(memory.mean.shape))
        if memory is not None and self.warm_start:
            points = (memory.mean.to(like), memory.best.to(like))
            mean, best = (torch.where(finite_rows(each)[:, None], self._later(each), mean) for each in points)
            known.append(best.unsqueeze(1))
        if self.proposals is not None:
            known.append(self.knots.points(self._proposed(state).to(like)))
        return mean, torch.cat(known, 1) if known else None

    def _proposed(self, state: State) -> Float[Tensor, "batch proposals horizon action"]:
        assert self.proposals is not None
        actions = self.proposals(state)
        sizes = len(_like(state)), self.knots.horizon, self.action_dim
        fits = actions.dim() == 4 and (actions.shape[0], *actions.shape[2:]) == sizes
        require(fits, f"proposals must be [B, M, H, A] with B, H and A {sizes}", list(actions.shape))
        return actions

    def _choose(self, state: State, plan: Tensor, value: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """The rest of the last plan and its return where that is higher; elsewhere the plan and its value."""
        counts = finite_rows(rest.flatten(1))
        rest = torch.where(counts[:, None, None], rest, plan)
        with torch.no_grad():
            ours, theirs = self.returns(state, torch.stack([plan, rest], 1).to(_like(state).dtype)).unbind(1)
        keeps = counts & theirs.isfinite() & ~(ours >= theirs)  # also where the plan is NaN
        return torch.where(keeps[:, None, None], rest, plan), torch.where(keeps, theirs.to(value), value)


def _like(state: State) -> Tensor:
    """A tensor with a row for each problem, of the device and the floating-point type of a state."""
    tensor = batch_of(state)
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
