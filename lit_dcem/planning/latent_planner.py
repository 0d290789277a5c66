"""DCEM over a learned space of action sequences: the embedded controller (section 5.3 of the paper)."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from lit_dcem.models.action_decoder import ActionDecoder
from lit_dcem.planning.model_planner import ModelPlanner
from lit_dcem.planning.precision import Precision
from lit_dcem.solvers.cem import DCEM


class LatentPlanner(ModelPlanner):
    """Searches latent vectors z, that a decoder makes sequences of actions of, for the most predicted reward.

    The decoder is part of the planner, and learns by what searches through it lead to: see `objective`.

    Args:
        decoder: from z to H actions, with the bounds -1 and 1.
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
    ) -> None:
        super().__init__(
            solver, decoder.horizon, initial_std, answer, warm_start, keep_plans, sample, precision, compile
        )
        if not ((decoder.lower == -1).all() and (decoder.upper == 1).all()):
            got = f"{decoder.lower.tolist()} and {decoder.upper.tolist()}"
            raise ValueError(f"The decoder of a LatentPlanner must have the bounds of actions, -1 and 1, got {got}.")
        self.decoder = decoder

    def size(self, action_dim: int) -> int:
        return self.decoder.latent_dim

    def decode(self, points: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch horizon action"]:
        return self.decoder(points.to(self.decoder.lower.dtype))

    def advance(self, points: Float[Tensor, "envs latent_dim"], action_dim: int) -> Float[Tensor, "envs latent_dim"]:
        return points
