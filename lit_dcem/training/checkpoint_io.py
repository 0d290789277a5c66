"""Checkpoints of Lightning, written so that they survive, and read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lit_dcem.files.replacing import open_replacing
from lit_dcem.training.checkpoint import Checkpoint


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's files of checkpoints, except that a save that is cut off leaves the previous file whole.

    Lightning writes a checkpoint in ``$TMPDIR`` and moves it. Across file systems that is a copy over the old file: a
    kill or a full disk in the middle of it destroys both. Here it is written next to the old file, flushed to the disk,
    and swapped for it. Remote addresses (``s3://...``) are left to Lightning.

    Args:
        read: a checkpoint that was read already: it is not read again when the Trainer loads it.
    """

    def __init__(self, read: Checkpoint | None = None) -> None:
        super().__init__()
        self._read = read

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """The content of a checkpoint, on the CPU; the Trainer may change it."""
        read, self._read = self._read, None
        if read is not None and str(read.path) == str(path):
            return read.content
        return super().load_checkpoint(path, *args, **options)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint under a path.

        Raises:
            WriteError: it cannot be written (the disk is full, say); what was there is as it was.
        """
        files, local = url_to_fs(str(path))
        if storage_options is not None or not isinstance(files, LocalFileSystem):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # A link `last.ckpt` is replaced, not the checkpoint that it points to.
        with open_replacing(local, "wb", follow_links=False) as file:
            torch.save(checkpoint, file)
