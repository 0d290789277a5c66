"""What training through a solver has in common across experiments: its loss over iterates, optimizer and schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lit_dcem.errors import UsageError
from lit_dcem.training.bfloat16 import warn_if_slow


def check_precision(module: pl.LightningModule, *refused: str) -> None:
    """Refuse a ``precision`` of the Trainer that a module cannot be trained in: float16 weights, and those given.

    Small gradients and Adam's eps of 1e-8 are 0 in float16, and the weights NaN after a few updates. Warns of bfloat16
    where that is slow.

    Raises:
        UsageError: one of the refused.
    """
    refused, precision = ("16-true", *refused), module.trainer.precision
    if precision in refused:
        rule = f"{type(module).__name__} cannot be trained in precision {' or '.join(refused)}"
        raise UsageError(f"{rule}: use 32-true, 64-true or bf16-mixed, got {precision}.")
    if precision.startswith("bf16"):
        warn_if_slow(module.trainer.strategy.root_device)


def optimize(
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    monitor: str,
    best: Literal["min", "max"] = "min",
    module: pl.LightningModule | None = None,
) -> OptimizerLRScheduler:
    """What ``configure_optimizers`` returns for parameters, or groups of them.

    A scheduler that waits for a plateau watches ``monitor``, of which the lowest or the highest is ``best``, unless it
    says itself what to watch. It steps in the epochs in which the trainer of the ``module`` validates.

    Raises:
        ValueError: a scheduler that would fail at its first step, which is an epoch away, or take what gets better for
            a plateau.
    """
    built = optimizer(parameters)
    for group in (built.defaults, *built.param_groups):
        _check_group(type(built), group)
    if lr_scheduler is None:
        return built
    _try_out(optimizer, lr_scheduler)
    scheduler = lr_scheduler(built)
    if isinstance(scheduler, ReduceLROnPlateau):
        watched = getattr(scheduler, "monitor", monitor)  # of Lightning's subclass
        if watched == monitor and scheduler.mode != best:
            rule = f"lr_scheduler must have the mode {best}, in which {monitor} gets better"
            raise ValueError(f"{rule}, got {scheduler.mode}.")
        watching = {"scheduler": scheduler, "monitor": watched, "frequency": _epochs_between_validations(module)}
        return {"optimizer": built, "lr_scheduler": watching}  # pyright: ignore[reportReturnType]
    return {"optimizer": built, "lr_scheduler": scheduler}


def _epochs_between_validations(module: pl.LightningModule | None) -> int:
    """1 without a trainer, too."""
    try:
        return 1 if module is None else module.trainer.check_val_every_n_epoch or 1
    except RuntimeError:  # not attached to one
        return 1


def _check_group(kind: type[Optimizer], group: dict[str, Any]) -> None:
    """Refuse what an optimizer refuses for all groups and takes for a single one, and what it cannot learn with."""
    if not 0 <= float(group.get("lr", 0)) < math.inf:
        raise ValueError(f"lr must be at least 0 and finite, got {group['lr']}.")
    for name, value in group.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}.")
    clip = group.get("clip", 1.0)  # None of torch's: see `clip_groups`
    if isinstance(clip, bool) or not isinstance(clip, (int, float)) or clip <= 0:
        raise ValueError(f"clip must be a positive number, got {clip}.")
    known = inspect.signature(kind)
    options = {name: value for name, value in group.items() if name in known.parameters and name != "params"}
    try:
        known.bind([], **options)
    except TypeError:  # somebody's own, made from more than what its groups hold
        return
    kind([nn.Parameter(torch.zeros(1))], **options)


def _try_out(optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    built = optimizer([parameter])
    scheduler = lr_scheduler(built)
    if getattr(scheduler, "T_max", 1) < 1:  # torch takes it, for a period that is none
        raise ValueError(f"T_max must be at least 1, got {scheduler.T_max}.")  # pyright: ignore[reportAttributeAccessIssue]
    built.step()
    try:
        scheduler.step(1.0) if isinstance(scheduler, ReduceLROnPlateau) else scheduler.step()
    except ArithmeticError as error:
        name = type(scheduler).__name__
        raise ValueError(f"lr_scheduler must be able to step, got {name} with options that make {error}.") from error
    if not math.isfinite(float(built.param_groups[0].get("lr", 0))):
        raise ValueError(f"lr_scheduler must keep lr finite, got {built.param_groups[0]['lr']} after a step.")


def check_data(module: pl.LightningModule, kind: type[pl.LightningDataModule]) -> None:
    """Raise a UsageError if the data of a module's run is of another experiment of ours; your own data are welcome."""
    data = getattr(module.trainer, "datamodule", None)
    if type(data).__module__.startswith("lit_dcem.") and not isinstance(data, kind):
        raise UsageError(f"A module must have data of its own experiment, got {_name(data)} for {_name(module)}.")


def _name(given: object) -> str:
    return type(given).__name__


def check_clipping(module: nn.Module, optimizer: Optimizer, algorithm: str | None) -> None:
    """Raise a UsageError for another algorithm than clipping by norm, where each group is clipped by itself."""
    if algorithm == "value" and len(optimizer.param_groups) > 1:
        raise UsageError(f"{type(module).__name__} clips gradients by norm, got gradient_clip_algorithm value.")


def clip_groups(module: nn.Module, optimizer: Optimizer, norm: float | None, algorithm: str | None) -> None:
    """Clip the norm of each group's gradients by itself: at its own ``clip``, or else at ``norm``.

    Raises:
        UsageError: another algorithm than clipping by norm.
    """
    check_clipping(module, optimizer, algorithm)
    for group in optimizer.param_groups:
        most = group.get("clip", norm)
        if most:
            nn.utils.clip_grad_norm_(group["params"], most)
