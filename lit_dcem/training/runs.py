"""Checkpoints of runs: rebuild their module and data, find them in run folders, export them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import instantiate_module
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lit_dcem.errors import UsageError
from lit_dcem.files.checkpoint import load_weights, read_checkpoint
from lit_dcem.files.replacing import check_writable, open_replacing
from lit_dcem.files.safe_config import check_config
from lit_dcem.files.trust import reader
from lit_dcem.messages import one_sentence

Built = TypeVar("Built", bound=pl.LightningModule | pl.LightningDataModule)
ROOM = 10
"""a module may make this many times the weights of its checkpoint while it is built"""
SMALL = 1_000_000
"""numbers, and a thousandth of it tensors, that any module may make"""
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.eye)
"""make tensors of a given size"""


def load_module(path: str | Path, trust: Iterable[str] = ()) -> pl.LightningModule:
    """The trained module of a checkpoint, rebuilt from the config that the checkpoint holds.

    Args:
        path: of the checkpoint.
        trust: your own packages whose classes it may name, beside ours, torch's and those that are imported.

    Raises:
        UsageError: a file that is not such a checkpoint, or one that names code that is not trusted.
    """
    checkpoint = read_checkpoint(path)
    module = rebuilt(pl.LightningModule, checkpoint, "hyper_parameters", path, trust)
    load_weights(module, checkpoint, path)
    return module.eval()


def rebuilt(
    kind: type[Built], checkpoint: Mapping[str, Any], name: str, path: str | Path, trust: Iterable[str]
) -> Built:
    """What a config of a checkpoint stands for, once nothing in it can import what is not trusted."""
    config = {key: value for key, value in checkpoint.get(name, {}).items() if key != "_instantiator"}
    if not config:
        raise UsageError(f"A checkpoint of a {kind.__name__} must hold its config, got no {name} in {path}.")
    cls = check_config(config, reader(path, trust))
    if not issubclass(cls, kind):
        raise UsageError(f"A checkpoint must be of a {kind.__name__} here, got {config['_class_path']} in {path}.")
    try:
        with _Limit(checkpoint["state_dict"], path):
            return instantiate_module(kind, copy.deepcopy(config))
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # whatever a constructor makes of arguments that are not its own
        reason = one_sentence(str(error) or type(error).__name__).rstrip(".")
        raise UsageError(f"The config in {path} must build a {cls.__name__}, got an error: {reason}.") from error


class _Limit(TorchFunctionMode):
    """Refuses to make tensors far beyond the weights of a checkpoint, before memory is filled."""

    def __init__(self, weights: Mapping[str, Any], path: str | Path) -> None:
        super().__init__()
        sizes = [value.numel() for value in weights.values() if isinstance(value, Tensor)]
        self.numbers, self.tensors = ROOM * sum(sizes) + SMALL, ROOM * len(sizes) + SMALL // 1000
        self.path = path

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            self.tensors -= 1
            self.numbers -= func(*args, **{**kwargs, "device": "meta"}).numel()
            if min(self.numbers, self.tensors) < 0:
                raise UsageError(
                    f"The config in {self.path} must fit the size of its weights, got one of larger parts."
                )
        return func(*args, **kwargs)


def history(checkpoint: Mapping[str, Any]) -> list[dict[str, float]]:
    """Rows of the `History` callback: step, seconds and the validation metrics.

    Raises:
        UsageError: something else in their place.
    """
    kept = checkpoint.get("callbacks", {}).get("History", {})
    rows = kept.get("rows", []) if isinstance(kept, dict) else None
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise UsageError("The History in a checkpoint must be rows of numbers with a step, got something else.")
    return rows


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and "step" in row and all(isinstance(each, (int, float)) for each in row.values())


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
