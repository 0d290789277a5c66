"""What every run has unless its config says otherwise: the best checkpoint, pictures, and curves of learning rates."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace

LOGGER = {
    "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
    "init_args": {"save_dir": "runs", "name": None, "default_hp_metric": False},
}
"""its runs have the name of the config"""
TRAINER = {"logger": LOGGER, "num_sanity_val_steps": 0, "log_every_n_steps": 10, "inference_mode": False}
"""defaults of ours for options of the Trainer; inference mode would keep solvers from their inner gradients"""


def default_callbacks(cls: type | None, model: Namespace, trainer: Namespace) -> list[Namespace]:
    """Callbacks that a config does not name and its module wants.

    A module says in ``monitor`` which metric tells the best checkpoint, with "min" or "max", and in ``pictures`` which
    callback draws.

    Args:
        cls: class of the module; None if unknown.
        model: its config.
        trainer: the Trainer's config.
    """
    named = [callback.class_path.rpartition(".")[2] for callback in callbacks_of(trainer)]
    best, pictures = getattr(cls, "monitor", None), getattr(cls, "pictures", None)
    found: list[Namespace] = []
    if isinstance(best, tuple) and trainer.enable_checkpointing is not False and "ModelCheckpoint" not in named:
        saving = {"monitor": best[0], "mode": best[1], "filename": "best", "enable_version_counter": False}
        found.append(_callback("pytorch_lightning.callbacks.ModelCheckpoint", **saving))
    if trainer.logger is not False:
        if model.get("init_args", {}).get("lr_scheduler") is not None and "LearningRateMonitor" not in named:
            found.append(_callback("pytorch_lightning.callbacks.LearningRateMonitor"))
        if pictures is not None and pictures.rpartition(".")[2] not in named:
            found.append(_callback(pictures))
    return found


def callbacks_of(trainer: Namespace) -> list[Namespace]:
    """The callbacks of a config, which may be none, one, or a list."""
    given = trainer.callbacks or []
    return given if isinstance(given, list) else [given]


def _callback(class_path: str, **options: Any) -> Namespace:
    return Namespace(class_path=class_path, init_args=Namespace(**options))
