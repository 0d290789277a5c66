"""See whether a training could begin, without beginning it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule

from lit_dcem.cli.attempt import Attempt, in_plain_words
from lit_dcem.cli.train import TrainingCLI, completed
from lit_dcem.errors import UsageError
from lit_dcem.files.trust import reader
from lit_dcem.training.checkpoint import DATA, MODEL, Checkpoint


class Rehearsal(TrainingCLI):
    """Builds model and data of a training as typed, and no more: no Trainer, no folder, no seed of this process.

    Args:
        arguments: of ``fit``, with ``--ckpt_path`` for none.
        before: the checkpoint that it starts from, where that is not written yet.

    Raises:
        UsageError: options that are not known, or of which no model and data can be built.
    """

    model: LightningModule

    def __init__(self, arguments: list[str], before: Checkpoint | None = None) -> None:
        try:
            super().__init__(Attempt(), *completed(["fit", *arguments], before))
        except UsageError:
            raise
        except Exception as error:  # whatever a constructor makes of its arguments
            raise UsageError(in_plain_words(error)) from error

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": TrainingCLI.subcommands()["fit"]}

    def _set_seed(self) -> None:
        """Do nothing: the process that trains has a seed."""

    def before_instantiate_classes(self) -> None:
        self.checked_config()

    def instantiate_classes(self) -> None:
        built = self.parser.instantiate_classes(self.config)[self.config.subcommand]
        self.model = built.model

    def after_instantiate_classes(self) -> None:
        self._dump_config()

    def _run_subcommand(self, subcommand: str) -> None:
        """Do nothing."""

    def checkpoint_at(self, path: Path) -> Checkpoint:
        """What the training will leave there, without weights."""
        content = {MODEL: _config(self.config_dump["model"]), DATA: _config(self.config_dump["data"])}
        return Checkpoint(path, content, reader(path))


def _config(part: dict[str, Any]) -> dict[str, Any]:
    return {"_class_path": part["class_path"], **part.get("init_args", {})}
