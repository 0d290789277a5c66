"""PlaNet, phase 2: learn a latent space of action sequences to plan in, through DCEM (section 5.3, figure 12)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from lit_dcem.embedding.loss import EmbeddingLoss
from lit_dcem.planet.data.environment_data import same_task
from lit_dcem.planet.data.rollouts import RolloutBatch
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.phases.phase1 import PlanetPhase1
from lit_dcem.planet.phases.value_learning import ValueLearning
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.planet.planning.problem import Problem
from lit_dcem.solvers.cem import DCEM
from lit_dcem.training.optimizing import clip_groups, optimize
from lit_dcem.training.start import start_from

NUM_LATENTS = 64
"""drawn to measure the decoder's logits"""
STARTS = {
    "PlanetPhase1": ("world_model", "scale"),
    "PlanetPhase2": ("world_model", "scale", "planner.decoder"),
}
"""what it takes over from the checkpoint of a class"""
VALUES = {"planner.value": "planner.value", "seed_planner.value": "planner.value"}
SHARED = {"PlanetPhase1": VALUES, "PlanetPhase2": VALUES}
"""what it also takes over from a class, and of what, if both have it"""


class PlanetPhase2(PlanetPhase1):
    """Plans every action in a latent space, whose decoder it learns beside the world model.

    All that phase 1 does, and in each update a step of the decoder: from some beliefs, search the latent space for the
    most imagined reward, and lower the cost of what was found, through the search. The world model gets no gradient
    from that, and the beliefs are taken as they are. Both losses are one sum for one optimizer with two parameter
    groups, since no parameter depends on both.

    Logs, beside what phase 1 logs, ``train/decoder``, minus the imagined return that the decoder is trained on, and
    ``train/logits``, how near the decoder is to the bounds: the mean square of what it squashes.

    Args:
        world_model: to go on learning; its sizes must be those of the environment.
        planner: chooses actions; its decoder learns.
        training_solver: searches in decoder steps, where gradients go through it; that of the planner if none is given.
        loss: of what a search met (paper, and if none is given: the cost of its answer).
        beliefs: where searches start: "replay", posteriors of the batch that the world model learns from (paper); or
            "acting", those of the last actions, as in the paper's variant with a decoder step at every planning step
            (then ``update_interval`` of the data should be its number of environments).
        num_beliefs: of the replayed ones, how many in a step, drawn at random.
        logit_cost: weight of the mean square of what the decoder squashes to actions, for z as a search first draws
            them. Without it the decoder drives all actions to their bounds, where the model is wrong and no gradient
            leads back; the paper has none.
        start: checkpoint of `PlanetPhase1`, whose world model it begins with, or of an earlier run of its own,
            whose decoder it goes on with, too (an exported one will do); else with new ones.
        seed_planner: plans the actions of the seed episodes, such as phase 1's, if there is no replay of it to begin
            with; else they are uniform.
        optimizer: made from the world model's parameters and, in a group of their own, the decoder's.
        decoder_options: of the optimizer, for the decoder's group, by name (paper's cartpole: Adam, 5e-4).
        decoder_clip: the norm of the decoder's gradient is clipped at this (paper's cartpole: 1); the Trainer's
            ``gradient_clip_val`` is for the world model.
        lr_scheduler: as in `PlanetPhase1`.
        normalize: as in `PlanetPhase1`; the scale of a checkpoint that it starts from stays.
        value_learning: as in `PlanetPhase1`; it goes on with the value of a checkpoint that it starts from, if there is
            one. The decoder learns to reach what is valued, and the value nothing from that.

    Raises:
        ValueError: an option out of range.
    """

    metrics = (*PlanetPhase1.metrics, "train/decoder", "train/logits")
    planner: LatentPlanner

    def __init__(
        self,
        world_model: WorldModel,
        planner: LatentPlanner,
        training_solver: DCEM | None = None,
        loss: EmbeddingLoss | None = None,
        beliefs: Literal["replay", "acting"] = "replay",
        num_beliefs: int = 16,
        logit_cost: float = 0.0,
        start: str | None = None,
        seed_planner: ModelPlanner | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        decoder_options: dict[str, Any] | None = None,
        decoder_clip: float = 1.0,
        lr_scheduler: LRSchedulerCallable | None = None,
        normalize: bool = False,
        value_learning: ValueLearning | None = None,
    ) -> None:
        super().__init__(world_model, planner, optimizer, lr_scheduler, normalize and start is None, value_learning)
        if num_beliefs < 1 or not decoder_clip > 0 or not 0 <= logit_cost < float("inf"):
            rule = "num_beliefs must be at least 1, decoder_clip positive, and logit_cost at least 0 and finite"
            raise ValueError(f"{rule}, got {num_beliefs}, {decoder_clip} and {logit_cost}.")
        self.training_solver = training_solver or planner.solver
        self.embedding_loss = loss or EmbeddingLoss()
        self.beliefs = beliefs
        self.num_beliefs = num_beliefs
        self.logit_cost = logit_cost
        self.start = start
        self.seed_planner = seed_planner
        self.decoder_options = decoder_options or {}
        self.decoder_clip = decoder_clip

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.seed_planner is not None:
            seeds = ModelPolicy(self.world_model, self.seed_planner, self.scale)
            self._rollouts().connect(self.policy, seeds)

    def on_fit_start(self) -> None:
        if self.start is not None and self.trainer.ckpt_path is None:  # a resumed run has all it needs
            start_from(self.start, self, STARTS, partial(same_task, self._rollouts()), also=SHARED)
            if self.value_learning is not None and self.planner.value is not None:
                self.value_learning.target.load_state_dict(self.planner.value.state_dict())

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        likelihood = self._likelihood(batch)
        starts = Belief(*(part.detach() for part in self._starts(likelihood.posteriors.belief)))
        cost = self.decoder_loss(starts)
        logits = self._logits(starts)
        self.log_dict({"train/decoder": cost, "train/logits": logits}, batch_size=1)
        return likelihood.total + cost + self.logit_cost * logits + self.horizon_loss(batch, likelihood)

    def decoder_loss(self, belief: Belief) -> Float[Tensor, ""]:
        """Minus the imagined return of what a search from each belief ``[B, size]`` met; for the decoder alone."""
        belief = Belief(*(part.detach() for part in belief))
        objective = self.planner.objective(Problem(self.world_model, belief, frozen=True))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.training_solver.is_differentiable):
            mean = belief.deter.new_zeros(len(belief.deter), self.planner.decoder.latent_dim)
            std = torch.full_like(mean, self.planner.initial_std)
            solution = self.training_solver.replace(trace=True)(objective, mean, std)
        return self.embedding_loss(objective, solution)

    def _logits(self, belief: Belief) -> Float[Tensor, ""]:
        """Mean square of the decoder's logits where a search begins, at some of the beliefs ``[B, size]``."""
        decoder = self.planner.decoder
        latents = self.planner.initial_std * torch.randn(NUM_LATENTS, decoder.latent_dim)
        latents = self.training_solver.clamp(latents).to(decoder.lower)
        sees = None
        if decoder.condition_dim:
            sees = torch.cat(belief, -1)[torch.arange(NUM_LATENTS, device=belief.deter.device) % len(belief.deter)]
        return decoder.logits(latents, sees).square().mean()

    def _starts(self, posteriors: Belief) -> Belief:
        """Beliefs to search from, ``[B, size]``."""
        state = self._rollouts().policy_state if self.beliefs == "acting" else None
        if state is not None:
            return Belief(*(state[name].to(self.device) for name in Belief._fields))
        flat = Belief(*(part.flatten(0, 1) for part in posteriors))
        index = torch.randint(len(flat.deter), (self.num_beliefs,)).to(self.device)
        return Belief(*(part[index] for part in flat))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimize(self.groups(), self.optimizer, self.lr_scheduler, "val/return")

    def groups(self) -> list[dict[str, Any]]:
        """World model, decoder, and the value if it is learned, for the optimizer."""
        decoder = {"params": self.planner.decoder.parameters(), "clip": self.decoder_clip, **self.decoder_options}
        model, *value = super().groups()
        return [model, decoder, *value]

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of world model, decoder and value apart."""
        clip_groups(self, optimizer, gradient_clip_val, gradient_clip_algorithm)
