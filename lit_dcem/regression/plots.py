"""Pictures of energy-based regression, logged during training."""

from __future__ import annotations

from matplotlib.figure import Figure

from lit_dcem.regression.figures import draw_predictions, draw_surface
from lit_dcem.regression.module import EnergyRegression
from lit_dcem.training.pictures import Pictures


class RegressionPlots(Pictures):
    """Logs the energy surface (figure 1) and the predictions (figure 6) as images.

    Args:
        every_n_epochs: number of epochs between pictures.

    Raises:
        ValueError: ``every_n_epochs`` below 1.
    """

    kind = EnergyRegression
    title = "energy and predictions"

    def __init__(self, every_n_epochs: int = 5) -> None:
        super().__init__(every_n_epochs)

    def picture(self, module: EnergyRegression) -> Figure:
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_surface(left, module)
        draw_predictions(right, module)
        return figure
