"""The config of a run, in the run's folder."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.cli import SaveConfigCallback

from lit_dcem.files.replacing import open_replacing
from lit_dcem.training.run_folder import run_folder


class ConfigFile(SaveConfigCallback):
    """Writes ``config.yaml`` to the folder of the run; one that is killed meanwhile leaves the old one whole.

    The file makes the run again, from the start: it does not state what was resumed.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Do nothing yet: the checkpoint to resume from may still be refused."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = run_folder(trainer)  # every rank has to ask
        if trainer.is_global_zero:
            config = self.config.clone()
            config.ckpt_path = None
            with open_replacing(folder / self.config_filename) as file:
                # Parsing has validated it; to do so again costs more than to write it.
                file.write(self.parser.dump(config, skip_none=False, skip_validation=True))
