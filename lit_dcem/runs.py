"""Checkpoints of runs: rebuild their module and data, find them in run folders, export them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import instantiate_module

from lit_dcem.checkpoint import check_weights, read_checkpoint
from lit_dcem.data.environment_data import EnvironmentData
from lit_dcem.errors import UsageError
from lit_dcem.files import check_writable, open_replacing

ROLLOUTS = ("lit_dcem.Rollouts", "lit_dcem.OnPolicyRollouts", "lit_dcem.JointRollouts")


def load_module(path: str | Path) -> pl.LightningModule:
    """The trained module of a checkpoint, rebuilt from the config that the checkpoint holds.

    Raises:
        UsageError: a file that is not such a checkpoint, or not of one of our own classes.
    """
    checkpoint = read_checkpoint(path)
    config = dict(checkpoint.get("hyper_parameters", {}))
    config.pop("_instantiator", None)
    class_path = str(config.get("_class_path"))
    if not class_path.startswith("lit_dcem."):
        raise UsageError(f"A checkpoint must be of a lit_dcem module, got {class_path} in {path}.")
    module = instantiate_module(pl.LightningModule, config)
    check_weights(module, checkpoint, path)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval()


def load_rollouts(path: str | Path) -> EnvironmentData:
    """The datamodule of a checkpoint that learned in an environment, as its config has it: what knows the environment.

    Raises:
        UsageError: a checkpoint without one.
    """
    config = dict(read_checkpoint(path).get("datamodule_hyper_parameters", {}))
    config.pop("_instantiator", None)
    if config.get("_class_path") not in ROLLOUTS:
        rule = f"A checkpoint of rollouts must hold the config of {' or '.join(ROLLOUTS)}"
        raise UsageError(f"{rule}, got {config.get('_class_path')} in {path}.")
    return instantiate_module(EnvironmentData, config)


def history(checkpoint: dict[str, Any]) -> list[dict[str, float]]:
    """Rows of the `History` callback: step, seconds and the validation metrics."""
    return checkpoint.get("callbacks", {}).get("History", {}).get("rows", [])


def checkpoint_of(run: str | Path) -> Path:
    """The checkpoint that stands for a run: the file itself, or the last one of a run folder.

    Raises:
        UsageError: there is none.
    """
    run = Path(run)
    if run.is_file():
        return run
    last = run / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise UsageError(f"A run must be a checkpoint or a folder with checkpoints/last.ckpt, got {run}.")
    return last


def newest_run(folder: str | Path) -> Path | None:
    """The last checkpoint of the newest ``version_N`` below a folder, if any holds one."""
    found = Path(folder).glob("version_[0-9]*/checkpoints/last.ckpt")
    return max(found, key=lambda path: int(path.parts[-3].removeprefix("version_")), default=None)


def strip(source: str | Path, destination: str | Path) -> None:
    """Copy a checkpoint without what only training needs: weights, config and curve remain.

    Raises:
        UsageError: a destination that is the source or a whole checkpoint, or that cannot be written.
    """
    checkpoint = read_checkpoint(source)
    _check_destination(Path(source), Path(destination))
    kept = ("state_dict", "hyper_parameters", "datamodule_hyper_parameters", "global_step", "epoch")
    kept = (*kept, "pytorch-lightning_version")
    small = {name: checkpoint[name] for name in kept if name in checkpoint}
    small["callbacks"] = {"History": {"rows": history(checkpoint)}}
    with open_replacing(destination, "wb") as file:
        torch.save(small, file)


def _check_destination(source: Path, destination: Path) -> None:
    """Training goes on from a whole checkpoint: an export must not take its place."""
    check_writable(destination, "The file of an export")
    if destination.is_file() and destination.samefile(source):
        raise UsageError(f"An export must be another file than its checkpoint, got {destination} for both.")
    there: dict[str, Any] = {}
    if destination.is_file():
        with contextlib.suppress(UsageError):  # something else, or an old export that is damaged
            there = read_checkpoint(destination)
    if "optimizer_states" in there:
        raise UsageError(f"An export must not replace a whole checkpoint, which training needs, got {destination}.")
