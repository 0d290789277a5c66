"""The config of a run, written so that it survives."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.cli import SaveConfigCallback

from lit_dcem.files import open_replacing


class ConfigFile(SaveConfigCallback):
    """Lightning's ``config.yaml`` of a run; a resumed run that is killed while it writes leaves the old one whole."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        folder = trainer.log_dir  # of rank 0: every rank has to ask
        if folder is None or self.already_saved:
            return
        if trainer.is_global_zero:
            with open_replacing(Path(folder) / self.config_filename) as file:
                file.write(self.parser.dump(self.config, skip_none=False))
        self.already_saved = True
