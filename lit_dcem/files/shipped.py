"""The configs and trained weights that come with the package, wherever it is installed."""

from __future__ import annotations

import os.path
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SUFFIXES = {"configs": ".yaml", "checkpoints": ".ckpt"}
"""file name endings that may be left out"""


def shipped(folder: str) -> Path:
    """``checkpoints`` or ``configs``: next to the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def find_shipped(name: str, folder: str) -> str:
    """The path of a shipped file, given its name; the name itself if a file here has it, or if no shipped one does.

    Args:
        name: such as ``cartpole``, ``cartpole.yaml`` or ``configs/cartpole.yaml``.
        folder: ``checkpoints``, where a run folder here is taken, too, or ``configs``.
    """
    here = os.path.exists(name) if folder == "checkpoints" else os.path.isfile(name)  # false for what is no path
    found = None if here else shipped_file(name, folder)
    return name if found is None else str(found)


def shipped_file(name: str, folder: str) -> Path | None:
    """The shipped file of a name, see `find_shipped`, whatever is here; None if there is none."""
    given = Path(name)
    if not given.name or given.parent not in (Path(), Path(folder)):
        return None
    path = shipped(folder) / given.name
    places = path, path.with_name(path.name + SUFFIXES[folder])
    return next((path for path in places if os.path.isfile(path)), None)
