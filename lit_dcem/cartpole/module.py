"""Cartpole: learn a latent space of action sequences through DCEM (section 5.2 of the paper, figures 2, 7 to 10)."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.seed import isolate_rng
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric

from lit_dcem.cartpole.dynamics import rollout_cost
from lit_dcem.cartpole.states import CartpoleStates
from lit_dcem.embedding.decoder import ActionDecoder
from lit_dcem.embedding.loss import EmbeddingLoss
from lit_dcem.solvers.cem import DCEM
from lit_dcem.solvers.search import Answer, Search
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Objective, Solution
from lit_dcem.training.optimizing import check_data, check_precision, optimize
from lit_dcem.training.start import start_from

EXPERT_COST = -9.05
"""mean validation cost of the paper's expert, CEM over the 20 forces (100 candidates, 10 elites, 30 iterations)"""
STATE_DIM = 5
# The search of val/cost_paper; its temperature is that of training.
PAPER_SEARCH = {"num_candidates": 100, "num_elites": 10, "num_iterations": 10}


class CartpoleEmbedding(pl.LightningModule):
    r"""Searches a latent space for the cheapest decoded forces, and trains the decoder on the cost of the answer.

    .. math:: \hat z = \arg\min_z C(z), \qquad u = \mathrm{decoder}(z), \qquad
        C(z) = \sum_{t=0}^{H-1} \left(0.1\, x_t^2 - \cos \theta_t + 10^{-5} u_t^2\right)

    Algorithm "learning an embedded control space with DCEM": the argmin, by DCEM, where C is the cost of the rollout
    under the decoded forces; then a gradient step on the cost of the answer through the whole search. At temperature 0
    the search has no derivative, and the gradient is that of the cost at the answer alone.

    Called with states ``[B, 5]`` it is a planner: it returns the forces ``[B, H]``. Logs ``train/cost`` and:

    - ``val/cost``: cost of the planned forces, averaged over states and solver seeds.
    - ``val/improvement``: ratio of ``val/cost`` to the expert's cost.
    - ``val/cost_paper``: measured as in the paper, at the mean of one search with 100 candidates, 10 elites and 10
      iterations at the temperature of training (1 if the training solver is not `DCEM`); it begins with the
      ``initial_std`` of this module.
    - ``val/cost_trained``: at the mean of the training solver's search.
    - ``val/cost_hard``: at the best point of the training solver's search at temperature 0, if it is `DCEM`.

    Args:
        decoder: from z to forces [N]; with a ``condition_dim`` of 5 it also takes the state that a plan starts from.
        solver: plans.
        training_solver: replaces ``solver`` in training, where gradients pass through it; by default ``solver``.
        optimizer: optimizes the decoder's parameters.
        lr_scheduler: steps once an epoch, after validation; one that halves on a plateau watches ``val/cost``.
        initial_std: standard deviation of the first candidates (paper: 0.5); their mean is 0.
        answer: plan with the last "mean" of the search (paper), or the "best" point it evaluated.
        loss: of the points that the training search evaluated; by default the cost of its answer (paper).
        validation_repeats: number of solver seeds to average a validation over.
        start: checkpoint of an earlier run whose decoder to start from; exported ones work, too.

    Raises:
        ValueError: an option out of range.
    """

    metrics = ("train/cost", "val/cost", "val/cost_paper", "val/cost_trained", "val/cost_hard", "val/improvement")
    """names of the logged metrics, for callbacks that monitor one"""
    monitor = ("val/cost", "min")
    """the metric that tells the best checkpoint, and where it is best"""
    pictures = "lit_dcem.CartpolePlots"
    """the callback that draws"""

    def __init__(
        self,
        decoder: ActionDecoder,
        solver: Solver,
        training_solver: Solver | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        initial_std: float = 0.5,
        answer: Answer = "mean",
        loss: EmbeddingLoss | None = None,
        validation_repeats: int = 5,
        start: str | None = None,
    ) -> None:
        super().__init__()
        if validation_repeats < 1:
            raise ValueError(f"validation_repeats must be at least 1, got {validation_repeats}.")
        if decoder.action_dim != 1:
            raise ValueError(f"The cartpole has one force a step, so action_dim must be 1, got {decoder.action_dim}.")
        if decoder.condition_dim not in (0, STATE_DIM) or decoder.blends_rest:
            rule = f"A decoder of the cartpole must have condition_dim 0 or {STATE_DIM}, and no blends_rest"
            raise ValueError(f"{rule}, got {decoder.condition_dim} and {decoder.blends_rest}.")
        self.decoder = decoder
        self.solver = solver
        self.training_solver = training_solver or solver
        for each in (self.solver, self.training_solver):
            each.check_dim(decoder.latent_dim)
        self.paper_solver = DCEM(**PAPER_SEARCH, **_kept(self.training_solver))
        self.search = Search(solver, initial_std, answer)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.embedding_loss = loss or EmbeddingLoss()
        self.validation_repeats = validation_repeats
        self.start = start
        self.cost = MeanMetric()
        self.cost_paper, self.cost_trained, self.cost_hard = MeanMetric(), MeanMetric(), MeanMetric()

    def forward(self, states: Float[Tensor, "batch 5"]) -> Float[Tensor, "batch horizon"]:
        """Planned forces [N] from each state on."""
        return self.decode(self.search.answer_of(self.solve(states)), states)

    @property
    def num_trajectories(self) -> int | None:
        """Rollouts behind a plan: the candidates of its search."""
        return self.search.num_evaluations

    def decode(
        self, latents: Float[Tensor, "*batch latent_dim"], states: Float[Tensor, "*some_batch 5"] | None = None
    ) -> Float[Tensor, "*batch horizon"]:
        """Force sequences [N] of latent vectors; ``states``, where the plans start, matter to a conditioned decoder."""
        condition = states if self.decoder.condition_dim > 0 else None
        return self.decoder(latents.to(self.decoder.lower.dtype), condition).squeeze(-1)

    def objective(self, states: Float[Tensor, "batch 5"]) -> Objective:
        """Cost of the forces decoded from latent vectors ``[B, N, latent_dim]``."""
        return lambda latents: _cost(states, self.decode(latents, states.unsqueeze(1)))

    def solve(self, states: Float[Tensor, "batch 5"], solver: Solver | None = None) -> Solution:
        """Search the latent space for each state, by ``solver`` if one is given."""
        search = self.search.with_solver(solver)
        return search.solve(self.objective(states), states, self.decoder.latent_dim)

    def setup(self, stage: str) -> None:
        check_precision(self)
        check_data(self, CartpoleStates)

    def on_fit_start(self) -> None:
        if self.start is not None and self.trainer.ckpt_path is None:  # a resumed run has all it needs
            start_from(self.start, self, {"CartpoleEmbedding": ("decoder",)})

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/cost", loss, prog_bar=True)
        return loss

    def loss(self, states: Float[Tensor, "batch 5"]) -> Float[Tensor, ""]:
        """Loss of the points that the training search evaluated, with gradients through the search if it has any."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.training_solver.is_differentiable):
            solution = self.solve(states, self.training_solver.traced())
        return self.embedding_loss(self.objective(states), solution)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, states: Tensor, stage: str) -> None:
        """Measure with the same noise each time, without touching the random state of training."""
        with isolate_rng():  # a solver of your own draws from the global generator
            for seed in range(self.validation_repeats):
                torch.manual_seed(seed)
                self.cost.update(_cost(states, self(states).unsqueeze(1)))
            self.cost_paper.update(self.solve(states, self.paper_solver).value)
            self.cost_trained.update(self.solve(states, self.training_solver).value)
            self.cost_hard.update(self.solve(states, _hard(self.training_solver)).best_value)
        self.log(f"{stage}/cost", self.cost, prog_bar=True)
        for name in ("paper", "trained", "hard"):
            self.log(f"{stage}/cost_{name}", getattr(self, f"cost_{name}"))

    def on_validation_epoch_end(self) -> None:
        self._log_improvement("val")

    def on_test_epoch_end(self) -> None:
        self._log_improvement("test")

    def _log_improvement(self, stage: str) -> None:
        self.log(f"{stage}/improvement", self.cost.compute() / EXPERT_COST, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimize(self.decoder.parameters(), self.optimizer, self.lr_scheduler, "val/cost", module=self)


def _kept(solver: Solver) -> dict[str, Any]:
    """Options of a training solver that the paper's search keeps."""
    options = solver.options if isinstance(solver, DCEM) else {}
    return {name: options[name] for name in ("temperature", "lower", "upper", "standardize") if name in options}


def _hard(solver: Solver) -> Solver:
    """The solver at temperature 0; as it is if it has no temperature."""
    return solver.replace(temperature=0.0) if isinstance(solver, DCEM) else solver


def _cost(states: Float[Tensor, "batch 5"], forces: Float[Tensor, "batch n horizon"]) -> Float[Tensor, "batch n"]:
    """Cost of sequences of forces [N], in float32 at least: half precision is too coarse for small steps of time."""
    return rollout_cost(states.to(torch.promote_types(states.dtype, torch.float32)), forces)
