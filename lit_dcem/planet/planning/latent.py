"""DCEM over a learned space of action sequences: the embedded controller (section 5.3 of the paper)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.embedding.decoder import ActionDecoder
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.problem import Rest
from lit_dcem.solvers.sampling_solver import SamplingSolver


class LatentPlanner(ModelPlanner):
    r"""Searches for the latent vector z whose decoded actions have the highest predicted return.

    .. math:: \hat z = \arg\max_z \sum_{t=1}^H \hat r(h_t, x_t), \qquad u = \mathrm{decoder}(z)

    .. math:: h_t = \mathrm{GRU}(h_{t-1}, x_{t-1}, u_t), \qquad x_t \sim \mathrm{prior}(h_t)

    Without ``sample``, x is the prior's mean. With a ``value``, its estimate at the end is added, and with a model that
    predicts termination, rewards count by the probability that the task is not over.

    The decoder is part of the planner and is trained through searches: see `objective`. A decoder with a condition
    sees the belief, h and x in one vector. If the decoder blends in the rest of the last plan, that rest is one of the
    candidates of each search. With ``warm_start`` the next search begins with the same z.

    Args:
        decoder: from z to H actions, with the bounds -1 and 1. With a ``condition_dim`` of ``deter_dim + stoch_dim`` it
            sees the belief.
        solver: searches z when acting (paper: 100 candidates, 10 elites, 3 to 10 iterations at temperature 1, z in
            [-1, 1]).
        initial_std: standard deviation of the first candidates (paper's cartpole: 0.5).
        options: those of `ModelPlanner` and `PlannerOptions`, by name.

    Raises:
        ValueError: an option out of range, a decoder with other bounds, or a solver whose horizon does not divide
            ``latent_dim``.
    """

    decoder: ActionDecoder

    def __init__(
        self, decoder: ActionDecoder, solver: SamplingSolver, initial_std: float = 0.5, **options: Any
    ) -> None:
        super().__init__(solver, decoder.horizon, initial_std, **options)
        self.use_decoder(decoder)

    def use_decoder(self, decoder: ActionDecoder) -> None:
        """Plan with another decoder, over its horizon.

        Raises:
            ValueError: a decoder whose bounds are not -1 and 1, or whose ``latent_dim`` the solver's horizon does not
                divide.
        """
        horizon = self.solver.options.get("horizon", 1)
        if decoder.latent_dim % horizon:
            rule = "The solver of a LatentPlanner must have a horizon that divides latent_dim"
            raise ValueError(f"{rule}, {decoder.latent_dim}, got {horizon}.")
        if not ((decoder.lower == -1).all() and (decoder.upper == 1).all()):
            got = f"{decoder.lower.tolist()} and {decoder.upper.tolist()}"
            raise ValueError(f"The decoder of a LatentPlanner must have the bounds of actions, -1 and 1, got {got}.")
        self.decoder, self.horizon = decoder, decoder.horizon

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
        return super().remembers or self.decoder.blends_rest

    def candidates(self, belief: Belief, rest: Rest | None) -> Float[Tensor, "envs 1 latent_dim"] | None:
        """The point that decodes to the rest of the last plan; zeros where there is none."""
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
        if points.dim() > 2:  # all candidates of an environment share its belief
            sees, left = (None if each is None else each.unsqueeze(1) for each in (sees, left))
        return self.decoder(points, sees, left)

    def advance(self, points: Float[Tensor, "envs latent_dim"], action_dim: int) -> Float[Tensor, "envs latent_dim"]:
        return points
