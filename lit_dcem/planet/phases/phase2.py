"""PlaNet, phase 2: learn a latent space of action sequences to plan in, through DCEM (section 5.3, figure 12)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lit_dcem.embedding.loss import EmbeddingLoss
from lit_dcem.planet.data.environment_data import same_task
from lit_dcem.planet.data.policies import Policies
from lit_dcem.planet.data.rollouts import RolloutBatch, Rollouts
from lit_dcem.planet.model.belief import Belief
from lit_dcem.planet.model.world_model import WorldModel
from lit_dcem.planet.phases.decoder_learning import DECODER_METRICS, DecoderLearning
from lit_dcem.planet.phases.model_learning import MODEL_METRICS, ModelLearning
from lit_dcem.planet.phases.planet import Planet, data_of
from lit_dcem.planet.phases.value_learning import ValueLearning
from lit_dcem.planet.planning.latent import LatentPlanner
from lit_dcem.planet.planning.planner import ModelPlanner
from lit_dcem.planet.planning.policy import ModelPolicy
from lit_dcem.solvers.sampling_solver import SamplingSolver
from lit_dcem.training.optimizing import optimize
from lit_dcem.training.start import start_from

CONTROLLER = ("world_model", "planner.decoder")
STARTS = {"PlanetPhase1": ("world_model",), "PlanetPhase2": CONTROLLER, "PlanetJoint": CONTROLLER}
"""what it takes over from the checkpoint of a class"""
VALUES = {"planner.value": "planner.value", "seed_planner.value": "planner.value"}
SHARED = {**dict.fromkeys(STARTS, VALUES), "PlanetPhase2": {**VALUES, "seed_planner.value": "seed_planner.value"}}
"""what it also takes over from a class, and of what, if both have it"""
INHERITS = {
    "PlanetPhase1": {"world_model": "world_model", "seed_planner": "planner"},
    "PlanetPhase2": {"world_model": "world_model", "seed_planner": "seed_planner", "planner": "planner"},
    "PlanetJoint": {"world_model": "world_model", "planner": "planner"},
}
"""for each class, parts that a config need not state, as those of the checkpoint in ``start`` are taken"""


class PlanetPhase2(Planet):
    """Plans every action in a latent space, and learns its decoder together with the world model.

    Each update does what phase 1 does and adds a step of the decoder: search the latent space from some beliefs for the
    largest imagined reward, and lower the cost of what was found, through the search. The world model gets no gradient
    from that, and the beliefs are taken as they are. Both losses are one sum for one optimizer with two parameter
    groups, since no parameter depends on both.

    In addition to phase 1, logs ``train/decoder``, minus the imagined return that the decoder is trained on, and
    ``train/logits``, how near the decoder is to the bounds: the mean square of what it squashes.

    Args:
        world_model: to keep learning; its sizes must be those of the environment.
        planner: chooses actions; its decoder learns.
        training_solver: searches in decoder steps, where gradients go through it; that of the planner if none is given.
        loss: of the points that a search evaluated; by default the cost of its answer (paper).
        beliefs: where searches start: "replay", posteriors of the batch that the world model learns from (paper); or
            "acting", those of the last actions, as in the paper's variant with a decoder step at every planning step
            (then ``update_interval`` of the data should be its number of environments).
        num_beliefs: of the replayed ones, how many in a step, drawn at random.
        logit_cost: weight of the mean square of what the decoder squashes to actions, for z as a search first draws
            them. Without it the decoder drives all actions to their bounds, where the model is wrong and no gradient
            leads back; the paper has none.
        start: checkpoint, exported or not, to begin with: of `PlanetPhase1`, for its world model, or of `PlanetPhase2`
            or `PlanetJoint`, for the decoder, too. Without it both are new.
        seed_planner: plans the actions of the seed episodes, as phase 1's does; for runs without its replay. Without it
            these actions are uniform.
        optimizer: made from the world model's parameters and, in a group of their own, the decoder's.
        decoder_options: of the optimizer, for the decoder's group, by name (paper's cartpole: Adam, 5e-4).
        decoder_clip: the norm of the decoder's gradient is clipped at this (paper's cartpole: 1); the Trainer's
            ``gradient_clip_val`` is for the world model.
        lr_scheduler: as in `PlanetPhase1`.
        normalize: as in `PlanetPhase1`; the scale of a checkpoint that it starts from stays.
        value_learning: as in `PlanetPhase1`; it starts from the value in the ``start`` checkpoint if there is one. The
            decoder learns to reach what is valued; the value learns nothing from the decoder.

    Raises:
        ValueError: an option out of range.
    """

    metrics = (*Planet.metrics, *MODEL_METRICS, *DECODER_METRICS)
    inherits = INHERITS
    planner: LatentPlanner

    def __init__(
        self,
        world_model: WorldModel,
        planner: LatentPlanner,
        training_solver: SamplingSolver | None = None,
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
        super().__init__(world_model, planner)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.value_learning = value_learning
        self.beliefs = beliefs
        self.start = start
        self.seed_planner = None if seed_planner is None else seed_planner.requires_grad_(False)
        self.model_learning = ModelLearning(world_model, planner, normalize and start is None, value_learning)
        self.decoder_learning = DecoderLearning(
            world_model,
            planner,
            training_solver or planner.solver,
            loss or EmbeddingLoss(),
            num_beliefs,
            logit_cost,
            decoder_clip,
            decoder_options or {},
        )

    def policies(self) -> Policies:
        seeding = None if self.seed_planner is None else ModelPolicy(self.world_model, self.seed_planner)
        return Policies(self.policy, seeding)

    def on_fit_start(self) -> None:
        if self.start is not None and self.trainer.ckpt_path is None:  # a resumed run has all it needs
            start_from(self.start, self, STARTS, partial(same_task, vars(self._rollouts())), also=SHARED)
            if self.value_learning is not None and self.planner.value is not None:
                self.value_learning.target.load_state_dict(self.planner.value.state_dict())

    def on_train_batch_start(self, batch: RolloutBatch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self._begins_update(batch_idx):
            replay = self._rollouts().replay
            self.model_learning.before_update(self.global_step, batch.sequences, replay, self.trainer.strategy)

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        likelihood, of_model = self.model_learning.likelihood(batch.sequences)
        starts = self._starts(likelihood.posteriors.belief)
        loss, of_decoder = self.decoder_learning.added_to(likelihood.total, starts)
        value, of_value = self.model_learning.value_loss(batch.sequences, likelihood)
        self.log_dict(of_model | of_decoder | of_value, batch_size=1)
        self._log_progress(batch)
        return loss + value

    def _starts(self, posteriors: Belief) -> Belief:
        """Beliefs to search from, ``[B, size]``."""
        state = self._rollouts().policy_state if self.beliefs == "acting" else None
        if state is not None:
            return Belief(*(state[name].to(self.device) for name in Belief._fields))
        return self.decoder_learning.drawn(posteriors)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        model, *value = self.model_learning.groups()
        groups = [model, self.decoder_learning.group(), *value]
        return optimize(groups, self.optimizer, self.lr_scheduler, *self.monitor, module=self)

    def _rollouts(self) -> Rollouts:
        return data_of(self, Rollouts)
