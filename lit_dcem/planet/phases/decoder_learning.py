"""The part of an update that learns the decoder of a latent space of plans, through a search of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_dcem.embedding.loss import EmbeddingLoss
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.problem import Problem
from lit_dcem.solvers.sampling_solver import SamplingSolver

DECODER_METRICS = ("train/decoder", "train/logits")
"""what a phase that learns a decoder logs in addition to `Planet`"""
NUM_LATENTS = 64
"""drawn to measure the decoder's logits"""


@dataclass(frozen=True)
class DecoderLearning:
    """Learns the decoder of a phase's planner: searches from some beliefs, and lowers the cost of what it found.

    The world model gets no gradient from that, and the beliefs are taken as they are.

    Raises:
        ValueError: an option out of range.
    """

    world_model: WorldModel
    planner: LatentPlanner
    solver: SamplingSolver
    """searches; gradients go through it"""
    embedding_loss: EmbeddingLoss
    """of the points that the search evaluated"""
    num_beliefs: int
    """how many posteriors of a batch to search from"""
    logit_cost: float
    """weight of the logits in the loss"""
    clip: float
    """most that the norm of the decoder's gradient may be"""
    options: dict[str, Any]
    """of the optimizer, by name"""

    def __post_init__(self) -> None:
        if self.num_beliefs < 1 or not self.clip > 0 or not 0 <= self.logit_cost < float("inf"):
            rule = "num_beliefs must be at least 1, decoder_clip positive, and logit_cost at least 0 and finite"
            raise ValueError(f"{rule}, got {self.num_beliefs}, {self.clip} and {self.logit_cost}.")

    def group(self) -> dict[str, Any]:
        """The decoder's parameters for the optimizer."""
        return {"params": self.planner.decoder.parameters(), "clip": self.clip, **self.options}

    def drawn(self, posteriors: Belief) -> Belief:
        """Some of the posteriors ``[T, B, size]``, drawn at random: ``[num_beliefs, size]``."""
        flat = Belief(*(part.flatten(0, 1) for part in posteriors))
        index = torch.randint(len(flat.deter), (self.num_beliefs,), device=flat.deter.device)
        return Belief(*(part[index] for part in flat))

    def loss(self, belief: Belief) -> Float[Tensor, ""]:
        """Minus the imagined return of what a search from each belief ``[B, size]`` found; for the decoder alone."""
        belief = Belief(*(part.detach() for part in belief))
        objective = self.planner.objective(Problem(self.world_model, belief, frozen=True))
        search = self.planner.search.with_solver(self.solver.traced())
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.solver.is_differentiable):
            solution = search.solve(objective, belief.deter, self.planner.decoder.latent_dim)
        return self.embedding_loss(objective, solution)

    def logits(self, belief: Belief) -> Float[Tensor, ""]:
        """Mean square of the decoder's logits where a search begins, at some of the beliefs ``[B, size]``."""
        decoder = self.planner.decoder
        latents = self.planner.initial_std * torch.randn(NUM_LATENTS, decoder.latent_dim, device=decoder.lower.device)
        latents = self.solver.clamp(latents).to(decoder.lower)
        sees = None
        if decoder.condition_dim:
            sees = torch.cat(belief, -1).detach()
            sees = sees[torch.arange(NUM_LATENTS, device=sees.device) % len(sees)]
        return decoder.logits(latents, sees).square().mean()

    def added_to(self, loss: Tensor, belief: Belief) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of another part with the decoder's added, from beliefs ``[B, size]``, and what to log."""
        cost, logits = self.loss(belief), self.logits(belief)
        return loss + cost + self.logit_cost * logits, {"train/decoder": cost, "train/logits": logits}
