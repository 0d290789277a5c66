"""Videos as files."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from imageio_ffmpeg import count_frames_and_secs

from lit_dcem.files.replacing import PAGE, open_replacing, replacing

SUFFIXES = (".mp4", ".gif")
Frame = np.ndarray
"""``[height, width, 3]`` of uint8"""
Film = tuple[Iterable[Frame], int]
"""frames, and how many of them make a second"""


def write_video(path: Path, frames: Iterable[Frame], frames_per_second: int) -> None:
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
