"""Truncates the logs of a resumed run to the position of its checkpoint, so that they continue from there."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from lit_dcem.files.replacing import open_replacing
from lit_dcem.training.curves import Curves

KEY = "log_positions"
"""key in a checkpoint of what each logger had written, in the order of the loggers"""
CURVES = "curves_position"
"""key in a checkpoint of what `Curves` had written, which stays when a user chooses other loggers"""
EVENTS = "events.out.tfevents.*"


class LogPositions(pl.Callback):
    """Flushes the loggers before each checkpoint, and stores in it how much they have written.

    A run that is killed has logged more than its last checkpoint counts. When it is resumed, this callback removes the
    later events of TensorBoard and rows of tables, because the run will write them again.
    """

    def __init__(self) -> None:
        self._positions: list[dict[str, Any]] = []
        self._earlier: list[list[Path]] = []
        self._curves: int | None = None
        self._resumes = False

    def continue_logs(self, trainer: pl.Trainer) -> None:
        """Prepare to continue the logs of earlier processes; call it before the loggers open their files."""
        for logger in _chosen(trainer):
            folder = logger.log_dir if isinstance(logger, TensorBoardLogger) else None
            self._earlier.append(sorted(Path(folder).glob(EVENTS)) if folder else [])
            if isinstance(logger, CSVLogger) and _table(logger).is_file():
                logger._experiment = _Continued(logger.log_dir)  # Lightning's would delete the file

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.is_global_zero:
            checkpoint[KEY] = [_position(logger) for logger in _chosen(trainer)]
            for curves in _curves(trainer):
                checkpoint[CURVES] = curves.position()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._positions = checkpoint.get(KEY, [])
        self._curves = checkpoint.get(CURVES)
        self._resumes = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for logger, position, earlier in zip(_chosen(trainer), self._positions, self._earlier, strict=False):
                _cut(logger, position, earlier)
            for curves in _curves(trainer) if self._resumes else []:
                curves.continue_from(self._curves)
        self._positions, self._resumes = [], False


class _Continued(ExperimentWriter):
    """A writer that continues a file with rows in it."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        with open(self.metrics_file_path, newline="") as file:
            self.metrics_keys = list(csv.DictReader(file).fieldnames or [])

    def _check_log_dir_exists(self) -> None:
        """Do nothing: Lightning's method deletes the file."""


def _chosen(trainer: pl.Trainer) -> list[Logger]:
    """The loggers that the user chose."""
    return [logger for logger in trainer.loggers if not isinstance(logger, Curves)]


def _curves(trainer: pl.Trainer) -> list[Curves]:
    return [logger for logger in trainer.loggers if isinstance(logger, Curves)]


def _position(logger: Logger) -> dict[str, Any]:
    """Flush a logger, and return what it has written: bytes of event files, rows of a table, or the name of a run."""
    logger.save()
    if isinstance(logger, TensorBoardLogger):
        return {"events": {path.name: path.stat().st_size for path in Path(logger.log_dir).glob(EVENTS)}}
    if isinstance(logger, CSVLogger):
        return {"rows": len(_rows(_table(logger)))}
    return {"version": None if logger.version is None else str(logger.version)}


def _cut(logger: Logger, position: dict[str, Any], earlier: list[Path]) -> None:
    """Remove what earlier processes wrote after the position."""
    for path in earlier if "events" in position else []:
        _truncate(path, position["events"].get(path.name, 0))
    if isinstance(logger, CSVLogger) and "rows" in position and _table(logger).is_file():
        _keep_rows(_table(logger), position["rows"])


def _truncate(path: Path, size: int) -> None:
    if size == 0:
        path.unlink()
    elif path.stat().st_size > size:
        os.truncate(path, size)


def _table(logger: CSVLogger) -> Path:
    return Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)


def _rows(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:] if table.is_file() else []


def _keep_rows(table: Path, count: int) -> None:
    lines = table.read_text().splitlines(keepends=True)[: count + 1]
    with open_replacing(table) as file:
        file.write("".join(lines))
