"""The figures that ``lit-dcem figure`` draws: each is registered where it is drawn, with the files that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from matplotlib.figure import Figure

from lit_dcem.errors import UsageError, require
from lit_dcem.files.shipped import find_shipped, shipped

Draw = Callable[[str, Sequence[Path]], Figure]
"""draws a figure, given its number and its files"""
Drawing = TypeVar("Drawing", bound=Draw)


class NothingShippedError(UsageError):
    """A figure has no run, and none of the files that it is drawn from by default exists."""


class Source(NamedTuple):
    """How a figure is drawn, and from what."""

    draw: Draw
    find: Callable[[str], Path] | None = None
    """the file that stands for a --run; None if the figure takes no runs"""
    shipped: Sequence[str] = ()
    """names or patterns of the shipped files; those that do not exist are left out"""
    single: bool = False
    """whether it shows one run: of the shipped files, the first that exists"""


FIGURES: dict[str, Source] = {}
"""by number or name, in the order in which their modules are imported"""


def figure(
    number: str, *, find: Callable[[str], Path] | None = None, shipped: Sequence[str] = (), single: bool = False
) -> Callable[[Drawing], Drawing]:
    """Register the function below as what draws a figure; for several figures, stack several of these.

    Args:
        number: of the paper's figure, or a name for one of ours.
        find: see `Source`, as the others.
        shipped: of the files that it is drawn from by default.
        single: whether it shows one run.
    """

    def register(draw: Drawing) -> Drawing:
        FIGURES[number] = Source(draw, find, shipped, single)
        return draw

    return register


def find_paths(number: str, source: Source, runs: Sequence[str] | None) -> list[Path]:
    """The files that a figure is drawn from.

    Raises:
        UsageError: runs for a figure that takes none or one, or a run that does not exist.
        NothingShippedError: neither runs nor shipped files.
    """
    if source.find is None:
        require(not runs, f"Figure {number} shows an untrained model and takes no --run", (runs or [""])[0])
        return []
    if runs:
        require(not source.single or len(runs) == 1, f"Figure {number} needs a single --run", len(runs))
        return [source.find(find_shipped(run, "checkpoints")) for run in runs]
    folder = shipped("checkpoints")
    paths = [path for pattern in source.shipped for path in sorted(folder.glob(pattern))]
    if not paths:
        wanted = " or ".join(source.shipped)
        raise NothingShippedError(f"Figure {number} needs --run or shipped files {wanted}, got none in {folder}.")
    return paths[:1] if source.single else paths


def table_of(name: str) -> Callable[[str], Path]:
    """A function that finds a table in the folder of a sweep; the path of a file is left as it is."""
    return lambda run: Path(run) / name if Path(run).is_dir() else Path(run)
