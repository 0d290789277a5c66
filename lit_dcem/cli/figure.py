"""``lit-dcem figure N``: from runs, or from the files that we ship."""

from __future__ import annotations

import functools
import os.path
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase

from lit_dcem.cli.rooms import modules_at
from lit_dcem.errors import require
from lit_dcem.files.replacing import check_writable, open_replacing
from lit_dcem.training.figure_source import FIGURES, NothingShippedError, Source, find_paths
from lit_dcem.training.progress import track

ALL = "all"
PLACES = ("*/figures.py", "*/figures/*.py")
"""where the rooms of the package have their figures"""


@functools.cache
def registered() -> dict[str, Source]:
    """All figures: those of the paper in its order, then ours."""
    for _ in modules_at(*PLACES):  # each registers its figures when it is imported
        continue
    return {name: FIGURES[name] for name in sorted(FIGURES, key=lambda name: name.zfill(2))}


def draw(number: str, runs: Sequence[str] | None = None, out: str | None = None) -> Path:
    """Draw a figure of the paper into an image file, and return its path.

    Args:
        number: of the paper, 1 to 15, or the name of one of ours.
        runs: what it is drawn from, such as run folders; the function that draws it says which. The shipped files if
            none are given.
        out: image file, of a type that matplotlib writes; ``figureN.png`` by default.

    Raises:
        UsageError: a run or file that cannot be used, or an image file that cannot be written.
        NothingShippedError: no runs, and no shipped files for this figure.
    """
    figures = registered()
    require(number in figures, f"A figure must be one of {', '.join(figures)}", number)
    source = figures[number]
    paths = find_paths(number, source, runs)
    require(out != "", "--out must be an image file", "an empty name")
    target = Path(out or f"figure{number}.png")
    kind = target.suffix.lstrip(".")
    rule = "--out must end like an image file (.png, .pdf, .svg)"
    require(kind in FigureCanvasBase.get_supported_filetypes(), rule, target)
    check_writable(target, "--out")
    figure = source.draw(number, paths)
    with open_replacing(target, "wb") as file:
        figure.savefig(file, format=kind, dpi=150)
    return target


def draw_all(runs: Sequence[str] | None = None, out: str | None = None) -> None:
    """Draw the figures whose shipped files exist, print their paths, and say which are left out.

    Raises:
        UsageError: runs, or a file instead of a folder to write to.
    """
    folder = Path(out or ".")
    rule = "Figure all is drawn from the shipped files and takes no --run"
    require(not runs, rule, (runs or [""])[0])
    require(not os.path.isfile(folder), "--out must be a folder for figure all", f"the file {folder}")
    for number in track(list(registered()), "figures"):
        try:
            print(draw(number, None, str(folder / f"figure{number}.png")))
        except NothingShippedError as missing:
            print(f"lit-dcem: Left out: {missing}", file=sys.stderr)
