"""What a figure is drawn from: files that were named, or the shipped ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import shipped


class NothingShippedError(UsageError):
    """A figure has no run, and none of the files that it is drawn from by default is there."""


class Source(NamedTuple):
    """How a figure is drawn, and from what."""

    figure: Callable[[str, Sequence[Path]], Figure]
    """of its number and its files"""
    find: Callable[[str], Path] | None = None
    """the file that stands for a --run; none if the figure takes no runs"""
    shipped: Sequence[str] = ()
    """names or patterns of the shipped files; those that are missing are left out"""
    single: bool = False
    """it shows one run: of the shipped files, the first that is there"""


def find_paths(number: str, source: Source, runs: Sequence[str] | None) -> list[Path]:
    """The files that a figure is drawn from.

    Raises:
        UsageError: runs for a figure that takes none or one, or a run that is none.
        NothingShippedError: neither runs nor shipped files.
    """
    if source.find is None:
        if runs:
            raise UsageError(f"Figure {number} shows an untrained model and takes no --run, got {runs[0]}.")
        return []
    if runs:
        if source.single and len(runs) > 1:
            raise UsageError(f"Figure {number} needs a single --run, got {len(runs)}.")
        return [source.find(run) for run in runs]
    folder = shipped("checkpoints")
    paths = [path for pattern in source.shipped for path in sorted(folder.glob(pattern))]
    if not paths:
        wanted = " or ".join(source.shipped)
        raise NothingShippedError(f"Figure {number} needs --run or shipped files {wanted}, got none in {folder}.")
    return paths[:1] if source.single else paths


def table_of(name: str) -> Callable[[str], Path]:
    """Finds a table in the folder of a sweep; a file is taken as it is."""
    return lambda run: Path(run) / name if Path(run).is_dir() else Path(run)
