"""Pictures of energy-based regression, logged during training."""

from __future__ import annotations

import pytorch_lightning as pl
from matplotlib.figure import Figure

from lit_dcem.regression.figures import draw_predictions, draw_surface
from lit_dcem.regression.module import EnergyRegression
from lit_dcem.training.pictures import is_due, log_figure, warn_without_pictures


class RegressionPlots(pl.Callback):
    """Logs the energy surface (figure 1) and the predictions (figure 6) as images.

    Args:
        every_n_epochs: number of epochs between pictures.

    Raises:
        ValueError: ``every_n_epochs`` below 1.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}.")
        self.every_n_epochs = every_n_epochs

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        warn_without_pictures(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_due(trainer, self.every_n_epochs) and isinstance(pl_module, EnergyRegression):
            log_figure(trainer, "energy and predictions", _picture(pl_module))


def _picture(module: EnergyRegression) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_surface(left, module)
    draw_predictions(right, module)
    return figure
