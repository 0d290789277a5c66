"""Films of cartpole episodes, in real time: cart, pole and force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lit_dcem.cartpole.dynamics import HALF_LENGTH, MAX_FORCE, TIME_STEP
from lit_dcem.training.video import Frame

FRAMES_PER_SECOND = round(1 / TIME_STEP)
CART = (0.5, 0.25)
"""width and height of the drawn cart [m]"""
FORCE_LENGTH = 1.0
"""of the bar that stands for the largest force [m]"""


def draw_cartpole(axis: Axes, state: Tensor, force: float) -> list[Artist]:
    """Draw a state ``[5]`` and the force [N] on the cart, a bar that points its way; return what was added."""
    x, _, cos, sin, _ = state.tolist()
    width, height = CART
    push = max(-1.0, min(1.0, force / MAX_FORCE)) * FORCE_LENGTH
    # At a positive angle the pole leans to the right.
    tip = (x + 2 * HALF_LENGTH * sin, 2 * HALF_LENGTH * cos)
    cart = axis.add_patch(Rectangle((x - width / 2, -height / 2), width, height, color="0.3"))
    pole = axis.plot([x, tip[0]], [0, tip[1]], color="tab:orange", linewidth=5, solid_capstyle="round")
    arrow = axis.plot([x, x + push], [-0.3, -0.3], color="tab:red", linewidth=4, solid_capstyle="butt")
    return [cart, *pole, *arrow]


def episode_frames(episodes: Mapping[str, tuple[Tensor, Tensor]]) -> Iterator[Frame]:
    """A frame for each of the T steps, with a panel for each named episode: states ``[T+1, 5]`` and forces ``[T]``."""
    figure = Figure(figsize=(9.6, 4.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(episodes), 1, squeeze=False)[:, 0]
    reach = 1.5 + max(states[:, 0].abs().max().item() for states, _ in episodes.values())
    for axis in panels:
        axis.set(xlim=(-reach, reach), ylim=(-1.2, 1.2), aspect="equal", yticks=[])
        axis.axhline(0, color="0.8", zorder=0)
    for t in range(min(len(forces) for _, forces in episodes.values())):
        drawn: list[Artist] = []
        for axis, (name, (states, forces)) in zip(panels, episodes.items(), strict=True):
            axis.set_title(
                f"{name}   {t * TIME_STEP:.2f} s   {forces[t].item():+.0f} N", loc="left", family="monospace"
            )
            drawn += draw_cartpole(axis, states[t], forces[t].item())
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()
        for artist in drawn:
            artist.remove()
