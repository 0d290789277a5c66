"""``lit-dcem fit|validate|test``: LightningCLI, with resuming in place and errors of one sentence."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn

from lit_dcem.cli.attempt import Attempt
from lit_dcem.cli.completing import in_front, missing
from lit_dcem.cli.configs import Tree, check_configs, check_named, class_of
from lit_dcem.cli.defaults import TRAINER, callbacks_of, default_callbacks
from lit_dcem.cli.ending import NOTHING, what_next
from lit_dcem.cli.overlays import spell_out, without_overlays
from lit_dcem.cli.parser import Parser
from lit_dcem.cli.resuming import check_same_run, check_trainer, log_into, newest_checkpoint, runs_folder
from lit_dcem.errors import UsageError, require
from lit_dcem.files.checkpoint import check_weights
from lit_dcem.files.trust import remember
from lit_dcem.solvers.cem import DCEM
from lit_dcem.solvers.gradient_descent import UnrolledGD
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.checkpoint_io import SafeCheckpointIO
from lit_dcem.training.config_file import ConfigFile
from lit_dcem.training.curves import Curves
from lit_dcem.training.finite_weights import FiniteWeights
from lit_dcem.training.fit_progress import FitProgress
from lit_dcem.training.history import History
from lit_dcem.training.last_checkpoint import without_requeueing
from lit_dcem.training.log_positions import LogPositions
from lit_dcem.training.monitors import Monitors
from lit_dcem.training.origin import Origin
from lit_dcem.training.parameter_summary import ParameterSummary
from lit_dcem.training.random_states import RandomStates
from lit_dcem.training.run_folder import RunFolder, folder_of, new_run

SOLVERS = (DCEM, UnrolledGD)
"""imported so that a config can name them without their path, whatever it trains"""
UNINTERESTING = ("Tip", "Trainer already configured with model summary")
"""beginnings of what Lightning says about itself"""


def run(arguments: list[str]) -> None:
    """Parse the arguments (``["fit", "--config", ...]``) and run the Trainer.

    Raises:
        UsageError: what was typed cannot be done.
        StoppedError: a signal ended training.
    """
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")  # of CSVLogger
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: not record.getMessage().lstrip("💡 ").startswith(UNINTERESTING)
    )
    torch.set_flush_denormal(True)  # numbers too small to matter, and slow on a CPU
    # Lightning starts the processes of other ranks with sys.argv.
    typed, sys.argv = sys.argv, [sys.argv[0], *arguments]
    attempt = Attempt()
    try:
        with attempt.in_one_sentence():
            TrainingCLI(attempt, *completed(arguments))
    finally:
        sys.argv = typed
        attempt.release()
        torch.set_flush_denormal(False)


def completed(arguments: list[str], before: Checkpoint | None = None) -> tuple[list[str], Tree]:
    """The arguments with all that they leave open, and that part alone.

    Args:
        arguments: as typed.
        before: what the run starts from, where it is not written yet.
    """
    check_configs(arguments)
    check_named(arguments)
    found = missing(without_overlays(arguments), before)
    return in_front(found, spell_out(arguments, found)), found


class TrainingCLI(LightningCLI):
    """LightningCLI for any of our modules and datamodules.

    ``--ckpt_path FILE`` resumes in the run folder of the file, with what the command line and config say;
    ``--ckpt_path last`` resumes the newest run of the config. Every checkpoint holds the config of its model.

    Args:
        attempt: is told how far the command came.
        arguments: in place of ``sys.argv``, which is for the processes of other ranks: they complete it themselves.
        found: the part of the config that was not written or typed (`lit_dcem.cli.completing`).
    """

    def __init__(self, attempt: Attempt, arguments: list[str], found: Tree) -> None:
        self.attempt = attempt
        self.arguments = arguments
        self.found = found
        self.checkpoint: Checkpoint | None = None
        self.first_callbacks: list[Any] = []
        self.curves: Curves | None = None
        super().__init__(
            parser_class=Parser,
            save_config_callback=ConfigFile,
            # Ours is below; with Lightning's, optimizers hold the command line, and an averaged model copies it.
            load_from_checkpoint_support=False,
            trainer_defaults={"callbacks": [RandomStates(), History(), Monitors()], **TRAINER},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the completed arguments."""
        self.config = parser.parse_args(self.arguments)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let the checkpoint's arguments win over what the user typed."""

    def before_instantiate_classes(self) -> None:
        config = self.checked_config()
        self.attempt.resumed_from = config.ckpt_path
        if config.ckpt_path == "last":
            config.ckpt_path = str(newest_checkpoint(config))
        if config.ckpt_path is not None:
            self.checkpoint = Checkpoint.read(config.ckpt_path)
            config.ckpt_path = str(self.checkpoint.path)
        if self.config.subcommand == "fit":
            self._prepare_run(config)
        else:
            self._only_measure(config)

    def checked_config(self) -> Namespace:
        """The config of the subcommand.

        Raises:
            UsageError: a part that is no mapping, or options of the Trainer that do not go together.
        """
        config = self.config[self.config.subcommand]
        for part in ("trainer", "model", "data"):
            if not isinstance(config.get(part), Namespace):
                raise UsageError(f"{part} must be a mapping of options, got {config.get(part)}.")
        check_trainer(config.trainer, class_of(config.data))
        return config

    def _prepare_run(self, config: Any) -> None:
        """Have everything of the run in one folder."""
        resumes = self.checkpoint is not None
        if self.checkpoint is not None:
            rule = "Training can only be resumed from a checkpoint with its optimizers"
            require(self.checkpoint.can_resume, rule, f"the export {config.ckpt_path}")
            self._dump_config()
            check_same_run(self.checkpoint.config, self.config_dump, folder_of(self.checkpoint.path))
            del self.config_dump  # what loggers are given below is to be in it
        if config.trainer.fast_dev_run:
            return
        wanted = default_callbacks(class_of(config.model), config.model, config.trainer)
        config.trainer.callbacks = [*callbacks_of(config.trainer), *wanted]
        folder = None
        if rank_zero_only.rank == 0:  # pyright: ignore[reportFunctionMemberAccess]
            folder = folder_of(Path(config.ckpt_path)) if resumes else new_run(runs_folder(config))
            self.attempt.made = None if resumes else folder
            self.attempt.copies_replay = config.data.get("init_args", {}).get("initial_replay") is not None
            log_into(config.trainer, folder, self.checkpoint)
        if config.trainer.enable_model_summary is not False:
            self.first_callbacks = [ParameterSummary()]
        seed = None if config.seed_everything is False else config.seed_everything
        self.attempt.folder, self.curves = RunFolder(folder), Curves(folder, seed)
        self.first_callbacks += [self.attempt.folder, LogPositions(), Origin(seed), FiniteWeights()]
        if config.trainer.enable_checkpointing is not False:
            self.first_callbacks.append(self.attempt.last)
            config.trainer.callbacks = [each for each in callbacks_of(config.trainer) if not _writes_last(each)]

    def _only_measure(self, config: Any) -> None:
        """Print the metrics, and leave no files."""
        trainer = config.trainer
        if self.checkpoint is None:
            rank_zero_warn(f"{self.config.subcommand} measures untrained weights, as there is no --ckpt_path.")
        serve_training = ("ModelCheckpoint", "LearningRateMonitor", "WeightAveraging")
        kept = [each for each in callbacks_of(trainer) if not each.class_path.endswith(serve_training)]
        trainer.callbacks, trainer.logger, trainer.enable_checkpointing = kept, False, False
        self.save_config_callback = None
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided")

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """Put the callbacks of the run first: see `LastCheckpoint`."""
        given = self.config_init[self.config.subcommand].trainer
        theirs = callbacks_of(given)
        has_bar = any(isinstance(each, ProgressBar) for each in theirs)  # Lightning takes one
        ours = [] if given.enable_progress_bar is False or has_bar else [FitProgress()]
        trainer = super().instantiate_trainer(callbacks=[*self.first_callbacks, *theirs, *ours], **options)
        without_requeueing(trainer)
        if self.curves is not None and trainer.loggers:
            trainer.loggers = [*trainer.loggers, self.curves]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not one that the user chose
            trainer.strategy.checkpoint_io = SafeCheckpointIO(self.checkpoint)
        return trainer

    def after_instantiate_classes(self) -> None:
        if self.checkpoint is not None:
            check_weights(self.model, self.checkpoint.weights(), self.checkpoint.path)
            for callback in self.first_callbacks:
                if isinstance(callback, LogPositions):
                    callback.continue_logs(self.trainer)
        self._dump_config()
        for name, built in (("model", self.model), ("data", self.datamodule)):
            built.save_hyperparameters(recorded(self.config_dump[name]), logger=False)
        if self.config.subcommand == "fit":
            remember(self.config_dump["model"], self.config_dump["data"], inherited=self.found)

    def after_fit(self) -> None:
        if self.attempt.trained_nothing:
            rank_zero_info(NOTHING)
        elif self.attempt.folder is not None:
            folder = self.attempt.folder.path(self.trainer)
            rank_zero_info(what_next(self.trainer, folder, self.attempt.resumed_from, self.attempt.has_updated))


def recorded(part: Tree) -> Tree:
    """What a checkpoint says of the config of a model or data."""
    origin = {"_class_path": part["class_path"], "_instantiator": "pytorch_lightning.cli.instantiate_module"}
    return {**origin, **part.get("init_args", {})}


def _writes_last(callback: Any) -> bool:
    """Whether a callback would write over what `LastCheckpoint` keeps."""
    return callback.class_path.endswith("ModelCheckpoint") and callback.get("init_args", {}).get("filename") == "last"
