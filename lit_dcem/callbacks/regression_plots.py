"""Pictures of energy-based regression in TensorBoard."""

from __future__ import annotations

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger

from lit_dcem.experiments.energy_regression import EnergyRegression
from lit_dcem.figures.regression import draw_predictions, draw_surface


class RegressionPlots(pl.Callback):
    """Logs the energy surface (figure 1) and the predictions (figure 6) as images.

    Args:
        every_n_epochs: draw after every so many epochs.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        due = (
            trainer.is_global_zero and not trainer.sanity_checking and trainer.current_epoch % self.every_n_epochs == 0
        )
        if not due or not isinstance(pl_module, EnergyRegression):
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("energy and predictions", _picture(pl_module), trainer.global_step)


def _picture(module: EnergyRegression) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_surface(left, module)
    draw_predictions(right, module)
    return figure
