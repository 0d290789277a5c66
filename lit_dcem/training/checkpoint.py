"""A checkpoint of a run: found by one rule, read once, and everything that is made of it."""

from __future__ import annotations

import contextlib
import copy
import os.path
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import instantiate_module

from lit_dcem.errors import UsageError, require
from lit_dcem.files.checkpoint import check_local, load_weights, read_checkpoint
from lit_dcem.files.replacing import check_writable, open_replacing
from lit_dcem.files.safe_config import check_config, find_class
from lit_dcem.files.shipped import find_shipped
from lit_dcem.files.trust import Reader, reader
from lit_dcem.training.limit import Limit
from lit_dcem.training.messages import one_sentence
from lit_dcem.training.run_folder import CHECKPOINTS, the_newest_run

Data = TypeVar("Data", bound=pl.LightningDataModule)
Built = TypeVar("Built", bound=pl.LightningModule | pl.LightningDataModule)
Row = dict[str, float]
MODEL, DATA = "hyper_parameters", "datamodule_hyper_parameters"
"""where Lightning keeps the configs"""
EXPORTED = ("state_dict", MODEL, DATA, "global_step", "epoch", "pytorch-lightning_version")
"""what an export copies; it adds the validation curve"""


class Config(NamedTuple):
    """What a checkpoint says of its model and data: each the path of a class, ``_class_path``, and its arguments."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]


def find_checkpoint(run: str | Path) -> Path:
    """The file that a run is read from.

    Args:
        run: a file; a run folder, which stands for its ``checkpoints/last.ckpt``; a folder of runs, such as
            ``runs/phase1``, which stands for the newest; or the name of a shipped checkpoint, such as
            ``cartpole_best_0``, with or without ``.ckpt`` and ``checkpoints/``. A file or folder in the current
            directory comes before a shipped one.

    Raises:
        UsageError: there is no such file, or the newest run has none yet.
    """
    check_local(run)
    path = Path(find_shipped(str(run), "checkpoints"))
    last = path / CHECKPOINTS / "last.ckpt"
    found = last if os.path.isfile(last) else the_newest_run(path) if os.path.isdir(path) else None
    if found is not None:
        return found
    rule = "A checkpoint must be a file, a run folder with checkpoints/last.ckpt or the name of a shipped one"
    require(os.path.isfile(path), rule, run)
    return path


class Checkpoint:
    """A checkpoint in memory, on the CPU. Nothing that it names is imported before it is checked.

    Args:
        path: where it was read from.
        content: what Lightning wrote.
        by: who reads it, and whom that reader trusts.
    """

    def __init__(self, path: Path, content: dict[str, Any], by: Reader) -> None:
        self.path = path
        self.content = content
        self._by = by

    @classmethod
    def read(cls, run: str | Path, trust: Iterable[str] = ()) -> Checkpoint:
        """Read a checkpoint, and compare every byte with its checksum.

        Args:
            run: see `find_checkpoint`.
            trust: your own packages whose classes it may name, besides ours, torch's and those already imported.

        Raises:
            UsageError: no such file, or one that is not a whole checkpoint of Lightning.
        """
        path = find_checkpoint(run)
        content = read_checkpoint(path)
        _check_history(content)
        return cls(path, content, reader(path, trust))

    @property
    def config(self) -> Config:
        """The configs of its model and data; an empty one where it holds none."""
        return Config(self.content.get(MODEL, {}), self.content.get(DATA, {}))

    @property
    def module_class(self) -> type:
        """The class of its module.

        Raises:
            UsageError: a class that is not trusted, or none.
        """
        whole = bool(_arguments(self.config.model))
        require(whole, f"A checkpoint must hold its config ({MODEL})", f"none in {self.path}")
        return find_class(self.config.model.get("_class_path"), self._by)

    @property
    def trusted_config(self) -> Config:
        """`config`, once nothing in it names code that is not trusted.

        Raises:
            UsageError: code that is not trusted.
        """
        for config in filter(None, map(_arguments, self.config)):
            check_config(config, self._by)
        return self.config

    def nearest(self, names: Iterable[str]) -> str | None:
        """Which of some classes of ours, by name, the class of its module is, or descends from; None if none."""
        ours = [base.__name__ for base in self.module_class.__mro__ if base.__module__.startswith("lit_dcem.")]
        known = set(names)
        return next((name for name in ours if name in known), None)

    @property
    def step(self) -> int:
        """Updates that its weights have had."""
        return self.content["global_step"]

    @property
    def can_resume(self) -> bool:
        """Whether training can be resumed from it; an export has no optimizers."""
        return "optimizer_states" in self.content

    @property
    def history(self) -> list[Row]:
        """Rows of the `History` callback: step, seconds and the validation metrics; none if it had no such callback."""
        return self.content.get("callbacks", {}).get("History", {}).get("rows", [])

    @property
    def origin(self) -> dict[str, Any]:
        """What the `Origin` callback knows: seed, commits, hardware; empty if it had no such callback."""
        found = self.content.get("callbacks", {}).get("Origin", {})
        return found if isinstance(found, dict) else {}

    def weights(self, part: str = "") -> dict[str, Any]:
        """The weights of a submodule, under the submodule's own names; by default all of them."""
        start = f"{part}." if part else ""
        weights = self.content["state_dict"]
        return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}

    def module(self) -> pl.LightningModule:
        """The trained module, rebuilt from its config, in evaluation mode.

        Raises:
            UsageError: no config, one that builds no such module, weights that do not fit, or code that is not trusted.
        """
        module = self._built(pl.LightningModule, MODEL)
        load_weights(module, self.weights(), self.path)
        return module.eval()

    def data(self, kind: type[Data]) -> Data:
        """The datamodule, as its config has it.

        Raises:
            UsageError: a checkpoint without one, one of another kind, or code that is not trusted.
        """
        return self._built(kind, DATA)

    def limit(self) -> Limit:
        """Refuses, while something is built from its config, to allocate far more than its weights."""
        return Limit(self.content["state_dict"], self.path)

    def export(self, destination: str | Path) -> None:
        """Write a copy without what only training needs: weights, configs, the validation curve and the origin.

        Raises:
            UsageError: a destination that is this file or a whole checkpoint, or that cannot be written.
        """
        self._check_destination(Path(destination))
        small = {name: self.content[name] for name in EXPORTED if name in self.content}
        small["callbacks"] = {"History": {"rows": self.history}, **({"Origin": self.origin} if self.origin else {})}
        with open_replacing(destination, "wb") as file:
            torch.save(small, file)

    def _check_destination(self, destination: Path) -> None:
        """An export must not overwrite a checkpoint that training can be resumed from."""
        check_writable(destination, "The file of an export")
        if not destination.is_file():
            return
        same = destination.samefile(self.path)
        require(not same, "An export must be another file than its checkpoint", f"{destination} for both")
        there: dict[str, Any] = {}
        with contextlib.suppress(UsageError):  # something else, or a damaged export
            there = read_checkpoint(destination)
        rule = "An export must not replace a checkpoint that training can be resumed from"
        require("optimizer_states" not in there, rule, destination)

    def _built(self, kind: type[Built], name: str) -> Built:
        """What a config builds, once nothing in it can import what is not trusted."""
        config = _arguments(self.content.get(name, {}))
        rule = f"A checkpoint of a {kind.__name__} must hold its config"
        require(bool(config), rule, f"no {name} in {self.path}")
        cls = check_config(config, self._by)
        got = f"{config['_class_path']} in {self.path}"
        require(issubclass(cls, kind), f"A checkpoint must be of a {kind.__name__} here", got)
        try:
            with self.limit():
                return instantiate_module(kind, copy.deepcopy(config))
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # whatever a constructor makes of arguments that are not its own
            reason = one_sentence(str(error) or type(error).__name__).rstrip(".")
            rule = f"The config in {self.path} must build a {cls.__name__}"
            raise UsageError(f"{rule}, got an error: {reason}.") from error


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "_instantiator"}


def _check_history(content: Mapping[str, Any]) -> None:
    """Raise a UsageError for something else in the place of the `History` callback's rows."""
    kept = content.get("callbacks", {}).get("History", {})
    rows = kept.get("rows", []) if isinstance(kept, dict) else None
    fits = isinstance(rows, list) and all(map(_is_row, rows))
    require(fits, "The History in a checkpoint must be rows of numbers with a step", "something else")


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and "step" in row and all(isinstance(each, (int, float)) for each in row.values())
