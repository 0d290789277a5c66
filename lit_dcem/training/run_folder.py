"""The folder of a run: chooses it, locks it against other processes, and keeps Lightning's checkpoints in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from lit_dcem.errors import UsageError

CHECKPOINTS = "checkpoints"
"""folder of the checkpoints, inside that of the run"""
LOCK = ".lock"
"""file inside the folder of a run, locked while a process works in it"""


def folder_of(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint, wherever that was moved to."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == CHECKPOINTS else folder


def newest_run(folder: Path) -> Path | None:
    """The last checkpoint of the newest ``version_N`` in a folder, if any holds one."""
    found = folder.glob(f"version_*/{CHECKPOINTS}/last.ckpt")
    return max(found, key=lambda path: _number(path.parents[1]), default=None)


def runs_after(checkpoint: Path) -> list[Path]:
    """The runs that began in the same folder after the one that wrote a ``last.ckpt``, from old to new."""
    run = checkpoint.parents[1]
    versions = sorted(run.parent.glob("version_*"), key=_number)
    return [path for path in versions if _number(path) > _number(run) and (path / LOCK).exists()]


def the_newest_run(folder: Path) -> Path | None:
    """`newest_run`, for those who say a folder and mean the newest run in it.

    Raises:
        UsageError: a run began after it that has no checkpoint yet, so an older one is not what they mean.
    """
    newest = newest_run(folder)
    if newest is not None and (later := runs_after(newest)):
        rule = "A folder of runs stands for the newest, which must have a last.ckpt"
        raise UsageError(f"{rule}, got {later[-1]}; to take an older one, name it: {newest.parents[1]}.")
    return newest


def new_run(folder: Path) -> Path:
    """Make the next ``version_N`` in a folder. Processes that call this at the same time get different ones.

    Raises:
        UsageError: it cannot be made.
    """
    number = 1 + max((_number(path) for path in folder.glob("version_*")), default=-1)
    while True:
        path = folder / f"version_{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():
                raise UsageError(f"A run needs a folder to write to, got the file {folder}.") from None
            number += 1
        except OSError as error:
            raise UsageError(f"A run needs a folder to write to, got {path} ({error.strerror}).") from error
        else:
            return path


def _number(version: Path) -> int:
    number = version.name.removeprefix("version_")
    return int(number) if number.isdigit() else -1


class RunFolder(pl.Callback):
    """Keeps the checkpoints of a run in one folder, whatever the logger, and locks the folder against other processes.

    The replay of `EnvironmentData` lies there, too: see `run_folder`. A run whose folder was moved is resumed in its
    new place.

    Args:
        path: of the folder, which must exist; None in all processes but the first, which tells them.

    Raises:
        UsageError: another process works in it.
    """

    def __init__(self, path: Path | None) -> None:
        self.has_updated = False
        """whether there was an update since training began or was resumed"""
        self._path = path
        self._told = False
        self._lock = None if path is None else _locked(path)

    def path(self, trainer: pl.Trainer) -> Path:
        """The folder, the same in all processes. The first call must be made by all of them together."""
        if not self._told:
            self._path = Path(trainer.strategy.broadcast(str(self._path)))
            self._told = True
        assert self._path is not None
        return self._path

    def release(self) -> None:
        """Let other processes work in it."""
        if self._lock is not None:
            self._lock.close()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        folder = self.path(trainer) / CHECKPOINTS
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(folder)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.has_updated = True

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell Lightning's callbacks where the folder is now: they forget the best checkpoint of another one."""
        there = str(self.path(trainer) / CHECKPOINTS)
        for state in checkpoint.get("callbacks", {}).values():
            before = state.get("dirpath") if isinstance(state, dict) else None
            if before and Path(before).name == CHECKPOINTS:
                state.update({name: _moved(value, before, there) for name, value in state.items()})


def _moved(value: Any, before: str, there: str) -> Any:
    if isinstance(value, str):
        return there + value.removeprefix(before) if value.startswith(before) else value
    return {_moved(key, before, there): kept for key, kept in value.items()} if isinstance(value, dict) else value


def _locked(folder: Path) -> IO[str] | None:
    """A file that stays locked until it is closed or the process ends; None on systems without file locks.

    Raises:
        UsageError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    file = (folder / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise UsageError(f"A run must be trained by one process at a time, got {folder}, where {owner} is.") from None
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
    except OSError:  # a full disk
        with suppress(OSError):  # closing writes once more
            file.close()
        raise
    return file


def run_folder(trainer: pl.Trainer) -> Path:
    """The folder in which a run keeps its own files; all processes must call this together.

    On the command line this is the folder of `RunFolder`. For a Trainer without that callback it is the parent of the
    first ModelCheckpoint's folder, or the folder that Lightning chooses by its logger.
    """
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, RunFolder):
            return callback.path(trainer)
    if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        return _passing_folder()
    given = [each.dirpath for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    folder = Path(str(given[0])) if given and given[0] else None
    if folder is None and trainer.loggers:
        logger = trainer.loggers[0]
        version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
        folder = Path(logger.save_dir or trainer.default_root_dir, str(logger.name), version, CHECKPOINTS)
    folder = folder or Path(trainer.default_root_dir, CHECKPOINTS)
    return Path(trainer.strategy.broadcast(str(folder.parent if folder.name == CHECKPOINTS else folder)))


def _passing_folder() -> Path:
    """A temporary folder that is deleted when the process ends, for a run that leaves no files."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="lit-dcem-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def discard(folder: Path) -> None:
    """Remove the folder of a run that never began, and its parent if that is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
