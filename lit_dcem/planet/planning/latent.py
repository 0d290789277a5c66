"""DCEM over a learned space of action sequences: the embedded controller (section 5.3 of the paper)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.embedding.decoder import ActionDecoder
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.value import ValueEnsemble
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.planner import ModelPlanner, Rest
from lit_dcem.planet.planning.precision import Precision
from lit_dcem.solvers.cem import DCEM


class LatentPlanner(ModelPlanner):
    """Searches latent vectors z, that a decoder makes sequences of actions of, for the most predicted reward.

    The decoder is part of the planner, and learns by what searches through it lead to: see `objective`. If it takes a
    condition, that is the belief, h and x in one vector. If it blends in the rest of the last plan, that rest is a
    candidate of each search, beside what the search draws.

    Args:
        decoder: from z to H actions, with the bounds -1 and 1; with a ``condition_dim`` of ``deter_dim + stoch_dim`` it
            sees the belief.
        solver: searches z when acting (paper: 100 candidates, 10 elites, 3 to 10 iterations at temperature 1, z in
            [-1, 1]).
        initial_std: standard deviation of the first candidates (paper's cartpole: 0.5).
        answer: act by the "mean" of the last distribution (paper), or by the "best" candidate met.
        warm_start: begin with the last z; else from zero every time (paper).
        keep_plans: go on with the rest of the last plan while no new one promises more; else every plan stands for one
            step (paper). It costs a few trajectories, and keeps a loop from putting off what pays later.
        sample: imagine with samples of the model's priors (PlaNet's code); else with their means, a little faster.
        precision: of imagination: "float32" (or what the model has); "bfloat16", about twice as fast on processors
            that multiply it, and 9 times as slow on others; or "auto", the faster one of these where the model is, but
            float32 where the model takes gradients. The beliefs before it and the search around it are in float32.
        compile: compile imagination with `torch.compile`; on a GPU with CUDA graphs. Takes half a minute at first.
        value: what follows the horizon, as far as its weight says; else nothing counts that does (paper). A phase with
            ``value_learning`` trains it.

    Raises:
        ValueError: an option out of range, or a decoder with other bounds.
    """

    def __init__(
        self,
        decoder: ActionDecoder,
        solver: DCEM,
        initial_std: float = 0.5,
        answer: Literal["mean", "best"] = "mean",
        warm_start: bool = False,
        keep_plans: bool = False,
        sample: bool = True,
        precision: Precision = "auto",
        compile: bool = False,
        value: ValueEnsemble | None = None,
    ) -> None:
        options = warm_start, keep_plans, sample, precision, compile, value
        super().__init__(solver, decoder.horizon, initial_std, answer, *options)
        if not ((decoder.lower == -1).all() and (decoder.upper == 1).all()):
            got = f"{decoder.lower.tolist()} and {decoder.upper.tolist()}"
            raise ValueError(f"The decoder of a LatentPlanner must have the bounds of actions, -1 and 1, got {got}.")
        self.decoder = decoder

    def size(self, action_dim: int) -> int:
        return self.decoder.latent_dim

    def check_sizes(self, model: WorldModel) -> None:
        super().check_sizes(model)
        decoder, rssm = self.decoder, model.rssm
        fits = decoder.action_dim == rssm.action_dim and decoder.condition_dim in (0, rssm.deter_dim + rssm.stoch_dim)
        if not fits:
            rule = "A decoder must have the action_dim of its world model, and condition_dim 0 or deter_dim + stoch_dim"
            wanted = f"{rssm.action_dim} and {rssm.deter_dim + rssm.stoch_dim}"
            raise ValueError(f"{rule}, {wanted}, got {decoder.action_dim} and {decoder.condition_dim}.")

    @property
    def remembers(self) -> bool:
        return self.keep_plans or self.decoder.blends_rest

    def candidates(self, belief: Belief, rest: Rest | None) -> Float[Tensor, "envs 1 latent_dim"] | None:
        """The point that stands for the rest of the last plan; zeros where there is none."""
        if not self.decoder.blends_rest:
            return None
        point = belief.deter.new_zeros(len(belief.deter), 1, self.decoder.latent_dim)
        if rest is not None:
            point[..., -1] = rest.counts.unsqueeze(1).to(point)
        return point

    def decode(
        self, points: Float[Tensor, "envs *candidates latent_dim"], belief: Belief, rest: Rest | None = None
    ) -> Float[Tensor, "envs *candidates horizon action"]:
        points = points.to(self.decoder.lower.dtype)
        sees = torch.cat(belief, -1) if self.decoder.condition_dim else None
        left = None if rest is None else rest.plan.masked_fill(~rest.counts[:, None, None], torch.nan)
        if points.dim() > 2:  # one belief for all candidates of an environment
            sees, left = (None if each is None else each.unsqueeze(1) for each in (sees, left))
        return self.decoder(points, sees, left)

    def advance(self, points: Float[Tensor, "envs latent_dim"], action_dim: int) -> Float[Tensor, "envs latent_dim"]:
        return points
