"""See whether a training could begin, without beginning it."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import LightningModule

from lit_dcem.cli.attempt import Attempt, in_plain_words
from lit_dcem.cli.train import TrainingCLI, completed, recorded
from lit_dcem.errors import UsageError
from lit_dcem.files.trust import reader
from lit_dcem.training.checkpoint import DATA, MODEL, Checkpoint


class Rehearsal(TrainingCLI):
    """Builds model and data of a training as typed, and no more: no Trainer, no folder, no seed of this process.

    Args:
        arguments: configs and options of ``lit-dcem fit`` for a new run.
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
        model, data = (recorded(self.config_dump[part]) for part in ("model", "data"))
        return Checkpoint(path, {MODEL: model, DATA: data}, reader(path))
