"""What the command line decides about a run before anything is built: its folder, its logs, and what it resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, dict_to_namespace
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lit_dcem.cli.configs import class_of
from lit_dcem.cli.defaults import LOGGER
from lit_dcem.errors import UsageError, require
from lit_dcem.training.checkpoint import Checkpoint, Config
from lit_dcem.training.log_positions import KEY
from lit_dcem.training.run_folder import newest_run, runs_after

RUNS = "runs"
NAMES = ("project", "experiment_name", "name")
"""what loggers call the name that runs share, the most telling first"""
IDENTITIES: dict[str, dict[str, Any]] = {
    "WandbLogger": {"id": ..., "resume": "allow"},
    "MLFlowLogger": {"run_id": ...},
    "CometLogger": {"experiment_key": ...},
}
"""arguments by which loggers that keep their runs elsewhere continue one; ... is its version"""
LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "min_epochs": 0,
    "min_steps": 0,
    "num_sanity_val_steps": -1,
    "val_check_interval": 0,
}
"""smallest values of options of the Trainer"""
KEPT = {
    "model": ("optimizer", "lr_scheduler", "decoder_options", "value_options", "tuned", "normalize", "start"),
    "data": (
        "env", "env_options", "time_limit", "action_repeat", "num_envs", "passes", "num_batches", "seed",
        "initial_replay",
    ),
}  # fmt: skip
"""options that a checkpoint restores, or whose change makes another run"""


def runs_folder(config: Namespace) -> Path:
    """Where the runs of a config are: what its first logger says, otherwise ``runs/`` and the config's name."""
    loggers = loggers_of(config.trainer)
    arguments = loggers[0].get("init_args", {}) if loggers else {}
    return named_runs(arguments, config.trainer.get("default_root_dir"), _config_name(config))


def named_runs(logger: Mapping[str, Any], root: str | None, name: str) -> Path:
    """Where runs are, each in a ``version_N``.

    Args:
        logger: arguments of the first one.
        root: the Trainer's ``default_root_dir``, for a logger without a folder of its own.
        name: of the config, for a logger without one.
    """
    place = logger.get("save_dir")
    require(place != "", "save_dir of a logger must be a folder", "an empty name")
    if place in (None, ".", RUNS):  # defaults: W&B's, and ours
        place = root or RUNS
    return Path(str(place), str(next((logger[each] for each in NAMES if logger.get(each)), name)))


def check_trainer(trainer: Namespace, data: type | None = None) -> None:
    """Raise a UsageError for an option of the Trainer that Lightning takes and cannot train with.

    Args:
        trainer: its config.
        data: class of the data; None if unknown.
    """
    for name, least in LEAST.items():
        value = trainer.get(name)
        if isinstance(value, (int, float)) and not value >= least:
            raise UsageError(f"trainer.{name} must be at least {least}, got {value}.")
    if trainer.get("val_check_interval") == 0:
        raise UsageError("trainer.val_check_interval must be above 0, got 0.")
    rule = "trainer.barebones must be false, as a run has a log, checkpoints and progress"
    require(not trainer.get("barebones"), rule, trainer.get("barebones"))
    if data is not None and data.__module__.startswith("lit_dcem."):  # your own may give the same batches again
        rule = "trainer.overfit_batches must be 0, as every epoch has new batches (limit_train_batches shortens epochs)"
        require(not trainer.get("overfit_batches"), rule, trainer.get("overfit_batches"))


def loggers_of(trainer: Namespace) -> list[Namespace]:
    """The loggers that a config names."""
    given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    return [logger for logger in given if isinstance(logger, Namespace)]


def newest_checkpoint(config: Namespace) -> Path:
    """The last checkpoint of a config's newest run.

    Raises:
        UsageError: there is none; that of an older run would continue what the user does not mean.
    """
    folder = runs_folder(config)
    newest = newest_run(folder)
    if newest is None:
        raise UsageError(f"--ckpt_path last needs a run to resume, got no last.ckpt in {folder}.")
    if later := runs_after(newest):
        rule = "--ckpt_path last resumes the newest run, which must have a last.ckpt"
        raise UsageError(f"{rule}, got {later[-1]}; to resume an older one: --ckpt_path {newest}.")
    return newest


def log_into(trainer: Namespace, folder: Path, checkpoint: Checkpoint | None) -> None:
    """Have the loggers of a config write to the folder of the run, or continue their run elsewhere.

    Args:
        trainer: of the config, which is changed.
        folder: of the run.
        checkpoint: that it is resumed from; None for a new run.
    """
    if trainer.logger is None or trainer.logger is True:
        trainer.logger = dict_to_namespace(LOGGER)
    positions = [] if checkpoint is None else checkpoint.content.get(KEY, [])
    for index, logger in enumerate(loggers_of(trainer)):
        kind = class_of(logger)
        if "init_args" not in logger:
            logger.init_args = Namespace()
        if kind is not None and issubclass(kind, (TensorBoardLogger, CSVLogger)):
            number = folder.name.removeprefix("version_")
            logger.init_args.version = int(number) if number.isdigit() else folder.name
            if index == 0:
                logger.init_args.save_dir, logger.init_args.name = str(folder.parent.parent), folder.parent.name
        elif index < len(positions) and positions[index].get("version"):
            for name, value in IDENTITIES.get(logger.class_path.rpartition(".")[2], {}).items():
                logger.init_args[name] = positions[index]["version"] if value is ... else value


def check_same_run(before: Config, config: Mapping[str, Any], folder: Path) -> None:
    """Raise a UsageError if a config would resume a checkpoint as another run, or would have no effect.

    Args:
        before: config of the checkpoint to resume from.
        config: the whole one, as plain data.
        folder: of the run.
    """
    for part, theirs in before._asdict().items():
        ours = config.get(part) or {}
        began, now = theirs.get("_class_path"), ours.get("class_path")
        if "_class_path" in theirs and began != now:
            raise UsageError(f"A run must be resumed with the {part} that it began with, {began}, got {now}.")
        _check_same(theirs, ours.get("init_args") or {}, KEPT[part])
    _check_same(_recorded(folder), dict(config), ("seed_everything",))


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name in before and name in now:  # what an earlier version did not know is as that version had it
            for key, was, given in _differing(name, before[name], now[name]):
                raise UsageError(f"A run must be resumed with what it began with, {key} {was}, got {given}.")


def _differing(key: str, before: Any, now: Any, of_class: bool = False) -> Iterator[tuple[str, Any, Any]]:
    """Names and values of options that differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in {**before, **now}:
            if name in before and name in now:
                yield from _differing(f"{key}.{name}", before[name], now[name], name == "init_args")
            elif not of_class:  # another version of a class may have other options
                yield f"{key}.{name}", before.get(name), now.get(name)
    elif _short(before) != _short(now):
        yield key, _short(before), _short(now)


def _short(value: Any) -> Any:
    """A part by its class, an empty mapping as None and a tuple as a list."""
    if isinstance(value, Mapping):
        return value.get("class_path", dict(value)) if value else None
    return list(value) if isinstance(value, tuple) else value


def _recorded(folder: Path) -> dict[str, Any]:
    """The config that a run was last trained with; empty if it cannot be read."""
    try:
        content = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _config_name(config: Namespace) -> str:
    files = [file for file in config.get("config") or [] if file is not None]  # None: written on the command line
    return Path(str(files[0])).stem if files else str(config.model.class_path).rpartition(".")[2]
