"""Pictures of the cartpole's embedding, logged during training."""

from __future__ import annotations

from matplotlib.figure import Figure

from lit_dcem.cartpole.figures.search import STATE, decoded, draw_forces, draw_search, latent_search
from lit_dcem.cartpole.figures.surfaces import surface
from lit_dcem.cartpole.module import CartpoleEmbedding
from lit_dcem.cartpole.states import validation_states
from lit_dcem.training.pictures import Pictures


class CartpolePlots(Pictures):
    """Logs a search for the best forces from one validation state as an image (figure 2).

    It shows the decoded candidates of the first and last iteration, and those of the last one on the cost surface over
    the latent space, if that is a plane.

    Args:
        every_n_epochs: number of epochs between pictures.

    Raises:
        ValueError: ``every_n_epochs`` below 1.
    """

    kind = CartpoleEmbedding
    title = "search"

    def __init__(self, every_n_epochs: int = 5) -> None:
        super().__init__(every_n_epochs)

    def picture(self, module: CartpoleEmbedding) -> Figure:
        return picture(module)


def picture(module: CartpoleEmbedding) -> Figure:
    """The panels of one image; draws no noise from the generators of training."""
    state = validation_states()[STATE].to(module.decoder.lower.device)
    iterations = latent_search(module, state)
    planar = module.decoder.latent_dim == 2
    figure = Figure(figsize=(12 if planar else 8, 3.5), layout="constrained")
    axes = figure.subplots(1, 3 if planar else 2)
    for axis, number in ((axes[0], 0), (axes[1], len(iterations) - 1)):
        draw_forces(axis, decoded(module, iterations[number], state))
        axis.set(title=f"iteration {number}", xlabel="step", ylabel="force [N]")
    if planar:
        draw_search(axes[2], surface(module, state, 101), iterations[-1])
        axes[2].set(title=f"iteration {len(iterations) - 1}, cost over z", xlabel="$z_1$", ylabel="$z_2$")
    return figure
