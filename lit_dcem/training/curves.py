"""The curves of a run as a plain table: ``curves.csv`` in its folder, beside whatever its loggers keep."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from lit_dcem.errors import UsageError, require

FILE = "curves.csv"
COLUMNS = ("step", "metric", "value", "seed")


class Points(NamedTuple):
    """What was logged of one metric, in the order of logging: both ``[N]``."""

    steps: np.ndarray
    values: np.ndarray


class Curves(Logger):
    """Writes a row for each logged number: step, metric, value and the seed of the run.

    Rows are only ever appended, so that a run that is killed keeps them, and a resumed one continues behind the rows
    that its checkpoint counts (`LogPositions`). Lightning's CSVLogger has a column for each metric instead: it rewrites
    the file whenever a new metric appears, and leaves most cells empty. A Callback would not see what is logged, only
    the latest value of each metric.

    Args:
        folder: of the run; None in processes that do not write.
        seed: of the run; None if it has none.
    """

    def __init__(self, folder: str | Path | None, seed: int | None = None) -> None:
        super().__init__()
        self._path = None if folder is None else Path(folder, FILE)
        self._seed = seed
        self._file: IO[str] | None = None

    @property
    def name(self) -> None:
        return None

    @property
    def version(self) -> None:
        return None

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the folder of the run has its config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("a", newline="", encoding="utf-8")
        writer = csv.writer(self._file, lineterminator="\n")
        if self._file.tell() == 0:
            writer.writerow(COLUMNS)
        at = "" if step is None else int(step)
        # Ordered by name, not by what was logged first, so that a resumed run writes the same file.
        writer.writerows((at, name, float(value), self._seed) for name, value in sorted(metrics.items()))

    def save(self) -> None:
        if self._file is not None:
            self._file.flush()

    def finalize(self, status: str) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def position(self) -> int:
        """Bytes written so far, flushed."""
        self.save()
        return self._path.stat().st_size if self._path is not None and self._path.is_file() else 0

    def continue_from(self, position: int | None) -> None:
        """Cut off what was written after a checkpoint.

        Args:
            position: of that checkpoint. None for one without, of a run that has logged before and had no such file:
                it continues without, so that a file always has the whole run.
        """
        if position is None:
            self._path = None
        elif self.position() > position and self._path is not None:
            os.truncate(self._path, position)


def read_curves(path: Path) -> dict[str, Points]:
    """The curves in a file that `Curves` wrote, by metric.

    Raises:
        UsageError: no such file, another table, or a cell that holds no number.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            missing = [name for name in COLUMNS[:3] if name not in (table.fieldnames or ())]
            require(not missing, f"{path} must have the columns {', '.join(COLUMNS)}", f"none called {missing[:1]}")
            for row in table:
                found.setdefault(row["metric"], []).append((_number(row, "step", path), _number(row, "value", path)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"Curves must be a readable CSV file, got {path} ({type(error).__name__}).") from error
    return {metric: Points(*np.array(points, dtype=float).T) for metric, points in found.items()}


def _number(row: Mapping[str, str | None], column: str, path: Path) -> float:
    cell = row[column]
    try:
        return float(cell or "nan")
    except ValueError:
        raise UsageError(f"{column} must be a number in every row of {path}, got {cell}.") from None
