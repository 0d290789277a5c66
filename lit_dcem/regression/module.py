"""Energy-based regression: learn E(x, y) through ``argmin_y E(x, y)`` (section 5.1 of the paper, figures 1, 5, 6)."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.seed import isolate_rng
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanSquaredError

from lit_dcem.regression.data import RegressionData
from lit_dcem.regression.energy import EnergyNetwork
from lit_dcem.solvers.iterates import LastIterates
from lit_dcem.solvers.search import Search
from lit_dcem.solvers.solver import Solver
from lit_dcem.solvers.types import Solution
from lit_dcem.training.optimizing import check_data, check_precision, optimize

Batch = tuple[Tensor, Tensor]


class EnergyRegression(pl.LightningModule):
    r"""Predicts by minimising a learned energy, and trains the energy on the squared error of the prediction.

    .. math:: \hat y(x) = \arg\min_y E(x, y), \qquad
        \mathrm{loss} = \frac{1}{B} \sum_{b=1}^B \left(\hat y(x_b) - y_b\right)^2

    The argmin is the answer of the solver. With several outputs, the loss is the mean over these, too. With more
    ``loss_iterations``, it is a weighted mean over the last inner iterations; j before the last, the weight is in
    proportion to ``loss_discount ** j``.

    Logs ``train/loss``, ``val/mse`` (over all points, by ``solver``) and ``val/mse_n``, the same after n inner
    iterations. A prediction starts from y = 0.

    Args:
        solver: finds the minimiser of the energy.
        energy: E(x, y).
        training_solver: replaces ``solver`` in training, where gradients pass through it; by default ``solver``.
        optimizer: optimizes the energy's parameters.
        lr_scheduler: steps once an epoch, after validation; one that halves on a plateau watches ``val/mse``.
        initial_std: standard deviation of the first candidates (paper: 7).
        loss_iterations: number of last inner iterations whose answers enter the loss (paper: 1).
        loss_discount: weight of each of these answers relative to the next.
        validation_iterations: values of n for ``val/mse_n``.
        validation_repeats: number of noise seeds to average a validation over.
        compile: compile the loss with `torch.compile`. It takes a minute and a C++ compiler, and helps small batches.

    Raises:
        ValueError: an option out of range.
    """

    monitor = ("val/mse", "min")
    """the metric that tells the best checkpoint, and where it is best"""
    pictures = "lit_dcem.RegressionPlots"
    """the callback that draws"""

    def __init__(
        self,
        solver: Solver,
        energy: EnergyNetwork,
        training_solver: Solver | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        initial_std: float = 7.0,
        loss_iterations: int = 1,
        loss_discount: float = 1.0,
        validation_iterations: Sequence[int] = (1, 5, 8, 10, 15, 20),
        validation_repeats: int = 1,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if validation_repeats < 1:
            raise ValueError(f"validation_repeats must be at least 1, got {validation_repeats}.")
        self.solver = solver
        self.training_solver = training_solver or solver
        for each in (self.solver, self.training_solver):
            each.check_dim(energy.output_dim)
        self.search = Search(solver, initial_std)
        self.last = LastIterates(loss_iterations, loss_discount)
        self._training_search = self.search.with_solver(
            self.training_solver if loss_iterations == 1 else self.training_solver.traced()
        )
        self.energy = energy
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.validation_iterations = tuple(validation_iterations)
        self.validation_repeats = validation_repeats
        self._training_loss = torch.compile(self.loss, fullgraph=True) if compile else self.loss
        self.metrics = ("train/loss", "val/mse", *(f"val/mse_{n}" for n in self.validation_iterations))
        self.mse = MeanSquaredError()
        self.mse_after = torch.nn.ModuleDict({str(n): MeanSquaredError() for n in self.validation_iterations})

    def forward(self, x: Float[Tensor, "batch input_dim"]) -> Float[Tensor, "batch output_dim"]:
        """Predictions for inputs."""
        return self.solve(x).mean

    def solve(self, x: Float[Tensor, "batch input_dim"], solver: Solver | None = None) -> Solution:
        """Minimise the energy for each input, by ``solver`` if one is given."""
        return self._solve(x, self.search.with_solver(solver))

    def _solve(self, x: Float[Tensor, "batch input_dim"], search: Search) -> Solution:
        return search.solve(lambda y: self.energy(x, y.to(x.dtype)), x, self.energy.output_dim)

    def iterates(self, x: Tensor, num_iterations: int) -> Float[Tensor, "iterations batch output_dim"]:
        """Predictions after 0, 1, .. num_iterations inner iterations."""
        return self.solve(x, self.solver.traced(num_iterations)).iterates

    def setup(self, stage: str) -> None:
        check_precision(self)
        check_data(self, RegressionData)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._training_loss(*batch)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared error of the minimiser, discounted over the last inner iterations."""
        solution = self._solve(x, self._training_search)
        if self.last.count == 1:
            return functional.mse_loss(solution.mean, y.to(solution.mean))
        errors = (self.last.of(solution) - y).square().mean((1, 2))
        return (errors * self.last.weights(len(errors), errors.device).to(errors)).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: Batch, stage: str) -> None:
        """Measure with the same noise each time, without touching the random state of training."""
        x, y = batch
        for repeat in range(self.validation_repeats):
            with isolate_rng():  # a solver of your own draws from the global generator
                torch.manual_seed(repeat)
                self.mse.update(self(x), y)
                path = self.iterates(x, max(self.validation_iterations))
            for n, metric in self._mse_after():
                metric.update(path[n], y)
        self.log(f"{stage}/mse", self.mse, prog_bar=True)
        for n, metric in self._mse_after():
            self.log(f"{stage}/mse_{n}", metric)

    def _mse_after(self) -> list[tuple[int, MeanSquaredError]]:
        return [(int(n), metric) for n, metric in self.mse_after.items() if isinstance(metric, MeanSquaredError)]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimize(self.energy.parameters(), self.optimizer, self.lr_scheduler, "val/mse", module=self)
