"""The configs and trained weights that come with the package, wherever it is installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SUFFIXES = {"configs": ".yaml", "checkpoints": ".ckpt"}
"""of most files in these folders, which may be left out"""


def shipped(folder: str) -> Path:
    """``checkpoints`` or ``configs``: beside the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def find_shipped(name: str, folder: str) -> str:
    """The path of a shipped file that was named; the name itself if it is that of a file here, or of none.

    Args:
        name: such as ``cartpole``, ``cartpole.yaml`` or ``configs/cartpole.yaml``.
        folder: ``checkpoints``, where a run folder here is taken, too, or ``configs``.
    """
    given = Path(name)
    here = given.exists() if folder == "checkpoints" else given.is_file()
    if here or not given.name or given.parent not in (Path(), Path(folder)):
        return name
    beside = shipped(folder) / given.name
    places = beside, beside.with_name(beside.name + SUFFIXES[folder])
    return next((str(path) for path in places if path.is_file()), name)
