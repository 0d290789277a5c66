"""Videos of cartpole episodes, in real time: cart, pole and force."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from imageio_ffmpeg import count_frames_and_secs
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lit_dcem.files import PAGE, open_replacing, replacing
from lit_dcem.models.cartpole import HALF_LENGTH, MAX_FORCE, TIME_STEP

SUFFIXES = (".mp4", ".gif")
FRAMES_PER_SECOND = round(1 / TIME_STEP)
CART = (0.5, 0.25)
"""width and height of the drawn cart [m]"""
FORCE_LENGTH = 1.0
"""of the bar that stands for the largest force [m]"""
Frame = np.ndarray
"""``[height, width, 3]`` of uint8"""
Film = tuple[Iterable[Frame], int]
"""frames, and how many of them make a second"""


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


def write_video(path: Path, frames: Iterable[Frame], frames_per_second: int = FRAMES_PER_SECOND) -> None:
    """Write the frames as an .mp4 or an endless .gif.

    Raises:
        ValueError: a file name that ends otherwise.
        WriteError: the file cannot be written; what it held before is whole.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"A video must end in {' or '.join(SUFFIXES)}, got {path}.")
    if path.suffix == ".gif":
        whole = io.BytesIO()  # its writer keeps all frames until the end anyway
        _encode(whole, frames, format="GIF", duration=1000 / frames_per_second, loop=0)
        with open_replacing(path, "wb") as file:
            file.write(whole.getbuffer())
    else:
        with replacing(path, path.suffix) as part:
            _encode_film(part, frames, frames_per_second)


def _encode_film(part: Path, frames: Iterable[Frame], frames_per_second: int) -> None:
    """Write an .mp4, and see that it is whole: an encoder that fails at its end does not say so."""
    quiet = {"ffmpeg_log_level": "quiet"}  # its own lines tell less than the error below
    try:
        count = _encode(part, frames, fps=frames_per_second, macro_block_size=2, **quiet)
    except OSError as error:  # it ended early
        raise _encoder_error(part) from error
    try:
        found, _ = count_frames_and_secs(part)
    except RuntimeError as error:
        raise _encoder_error(part) from error
    if found != count:
        raise _encoder_error(part)


def _encoder_error(part: Path) -> OSError:
    if shutil.disk_usage(part.parent).free < PAGE:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OSError("an encoder that did not finish")


def _encode(target: Path | io.BytesIO, frames: Iterable[Frame], **options: Any) -> int:
    """Write the frames, and count them."""
    count = 0
    with imageio.get_writer(target, mode="I", **options) as writer:
        for frame in frames:
            writer.append_data(frame)  # pyright: ignore[reportAttributeAccessIssue]
            count += 1
    return count
