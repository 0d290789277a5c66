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
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanSquaredError

from lit_dcem.models.energy import EnergyNetwork
from lit_dcem.solvers.cem import DCEM
from lit_dcem.solvers.gradient_descent import UnrolledGD
from lit_dcem.types import Solution

Batch = tuple[Tensor, Tensor]


class EnergyRegression(pl.LightningModule):
    """Predicts the minimiser of a learned energy, and trains the energy on the squared error of the minimiser.

    Logs ``train/loss``, ``val/mse`` (over all points, with the solver as it trains) and ``val/mse_n``, the same after n
    inner iterations. A prediction starts from y = 0.

    Args:
        solver: finds the minimiser; gradients go through it.
        energy: E(x, y).
        optimizer: made from the energy's parameters.
        lr_scheduler: steps once an epoch, after validation; one that halves on a plateau watches ``val/mse``.
        initial_std: standard deviation of the first candidates (paper: 7).
        validation_iterations: numbers n of inner iterations to validate with.
    """

    def __init__(
        self,
        solver: DCEM | UnrolledGD,
        energy: EnergyNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        initial_std: float = 7.0,
        validation_iterations: Sequence[int] = (1, 5, 8, 10, 15, 20),
    ) -> None:
        super().__init__()
        self.solver = solver
        self.energy = energy
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.initial_std = initial_std
        self.validation_iterations = tuple(validation_iterations)
        self.mse = MeanSquaredError()
        self.mse_after = torch.nn.ModuleDict({str(n): MeanSquaredError() for n in self.validation_iterations})

    def forward(self, x: Float[Tensor, "batch input_dim"]) -> Float[Tensor, "batch output_dim"]:
        """Predictions for inputs."""
        return self.solve(x).mean

    def solve(self, x: Float[Tensor, "batch input_dim"], solver: DCEM | UnrolledGD | None = None) -> Solution:
        """Minimise the energy for each input, with another solver if one is given."""
        mean = x.new_zeros(len(x), 1)
        std = torch.full_like(mean, self.initial_std)
        return (solver or self.solver)(lambda y: self.energy(x, y), mean, std)

    def iterates(self, x: Tensor, num_iterations: int) -> Float[Tensor, "iterations batch output_dim"]:
        """Predictions after 0, 1, .. num_iterations inner iterations."""
        solution = self.solve(x, self.solver.traced(num_iterations))
        assert solution.trace is not None
        return torch.stack([*(iteration.mean for iteration in solution.trace), solution.mean])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        loss = functional.mse_loss(self(x), y)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: Batch, stage: str) -> None:
        """Every validation draws the same noise, and training's is left alone."""
        x, y = batch
        with isolate_rng():
            torch.manual_seed(0)
            self.mse(self(x), y)
            iterates = self.iterates(x, max(self.validation_iterations))
        self.log(f"{stage}/mse", self.mse, prog_bar=True)
        for n, metric in self.mse_after.items():
            assert isinstance(metric, MeanSquaredError)
            metric(iterates[int(n)], y)
            self.log(f"{stage}/mse_{n}", metric)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.energy.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/mse"}}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}
