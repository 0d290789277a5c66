"""``lit-dcem fit|validate|test``: LightningCLI, with resuming in place and errors of one sentence."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_info

from lit_dcem.callbacks.history import History
from lit_dcem.callbacks.random_states import RandomStates
from lit_dcem.checkpoint import check_weights, read_checkpoint
from lit_dcem.errors import UsageError
from lit_dcem.messages import one_sentence
from lit_dcem.runs import newest_run
from lit_dcem.trust import remember


def run(arguments: list[str]) -> None:
    """Parse the arguments (``["fit", "--config", ...]``) and run the Trainer.

    Raises:
        UsageError: what was typed cannot be done.
    """
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "Tip" not in record.getMessage()
    )
    torch.set_flush_denormal(True)  # numbers too small to matter, and slow on a CPU
    # Lightning starts the processes of other ranks with sys.argv.
    typed, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        TrainingCLI(
            parser_class=Parser,
            save_config_kwargs={"overwrite": True},
            # Ours is below; with Lightning's, optimizers hold the whole command line, and an averaged model copies it.
            load_from_checkpoint_support=False,
            trainer_defaults={"callbacks": [RandomStates(), History()], "inference_mode": False},
        )
    finally:
        sys.argv = typed
        torch.set_flush_denormal(False)


class Parser(LightningArgumentParser):
    """Takes no abbreviated options, and raises instead of exiting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(one_sentence(message)) from ex


class TrainingCLI(LightningCLI):
    """LightningCLI for any of our modules and datamodules.

    ``--ckpt_path FILE`` goes on in the run folder of the file, with what the command line and config say;
    ``--ckpt_path last`` takes the newest run of the config. Every checkpoint holds the config of its model.
    """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def _parse_ckpt_path(self) -> None:
        """Lightning would let the checkpoint's arguments win over what the user typed; here they are what is typed."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.config.subcommand]
        logger, path = config.trainer.logger, config.ckpt_path
        if path == "last":
            path = config.ckpt_path = str(_newest_checkpoint(logger))
        self.checkpoint = None if path is None else read_checkpoint(path)
        if self.config.subcommand != "fit":
            self._only_measure(config.trainer)
        elif path is not None and self.checkpoint is not None:
            if "optimizer_states" not in self.checkpoint:
                raise UsageError(f"Training goes on from a whole checkpoint, got {path}, an exported one.")
            _log_in_place(logger, Path(path).resolve(), self.checkpoint["global_step"])

    def _only_measure(self, trainer: Any) -> None:
        """Print the metrics, and leave no files."""
        serve_training = ("ModelCheckpoint", "LearningRateMonitor", "WeightAveraging")
        kept = [each for each in trainer.callbacks or [] if not each.class_path.endswith(serve_training)]
        trainer.callbacks, trainer.logger, trainer.enable_checkpointing = kept, False, False
        self.save_config_callback = None
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided")

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise UsageError(one_sentence(str(error))) from error

    def after_instantiate_classes(self) -> None:
        config = self.config[self.config.subcommand]
        if self.checkpoint is not None:
            check_weights(self.model, self.checkpoint, config.ckpt_path)
        self._dump_config()
        for name, built in (("model", self.model), ("data", self.datamodule)):
            given = self.config_dump[name]
            origin = {"_class_path": given["class_path"], "_instantiator": "pytorch_lightning.cli.instantiate_module"}
            built.save_hyperparameters({**origin, **given.get("init_args", {})}, logger=False)
        if self.config.subcommand == "fit":
            remember(self.config_dump["model"], self.config_dump["data"])

    def after_fit(self) -> None:
        checkpoints = self.trainer.checkpoint_callback  # the first one
        if isinstance(checkpoints, ModelCheckpoint) and checkpoints.best_model_score is not None:
            best = f"{checkpoints.monitor} {checkpoints.best_model_score:.3g}"
            rank_zero_info(f"Best {best} in {checkpoints.best_model_path}; go on with --ckpt_path last.")


def _runs_folder(logger: Any) -> Path | None:
    """Where a TensorBoardLogger of the config puts its ``version_N`` folders."""
    arguments = getattr(logger, "init_args", None)
    return Path(arguments.save_dir) / str(arguments.name) if arguments else None


def _newest_checkpoint(logger: Any) -> Path:
    folder = _runs_folder(logger)
    newest = newest_run(folder) if folder else None
    if newest is None:
        raise UsageError(f"--ckpt_path last needs a run to go on with, got no last.ckpt in {folder}.")
    return newest


def _log_in_place(logger: Any, checkpoint: Path, step: int) -> None:
    """Go on in the run folder of the checkpoint, if it is one of this config's; drop what was logged after it."""
    folder, version = _runs_folder(logger), checkpoint.parent.parent
    if folder and version.parent == folder.resolve():
        number = version.name.removeprefix("version_")
        logger.init_args.version = int(number) if number.isdigit() else version.name
        logger.dict_kwargs = {"purge_step": step}
