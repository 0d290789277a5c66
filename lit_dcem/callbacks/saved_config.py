"""The config of a run, beside its checkpoints."""

from __future__ import annotations

import os

import pytorch_lightning as pl
from pytorch_lightning.cli import SaveConfigCallback

from lit_dcem.run_folder import run_folder


class SavedConfig(SaveConfigCallback):
    """Writes ``config.yaml`` to the folder of the run, in place of an earlier one when it is whole."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        target = run_folder(trainer) / self.config_filename  # known to `RunFolder` by now
        part = target.with_name(f".{target.name}.part")
        self.parser.save(self.config, str(part), skip_none=False, overwrite=True, multifile=False)
        os.replace(part, target)
