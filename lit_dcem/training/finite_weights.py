"""Ends a run whose weights are NaN or infinite, before they are saved."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn

from lit_dcem.errors import UsageError


class FiniteWeights(pl.Callback):
    """Ends training where it has diverged: before a validation, and at the end of an epoch.

    So no checkpoint of an epoch holds weights that are NaN or infinite, which no update mends. Lightning's
    `EarlyStopping` watches a metric instead, and ends as if all were well. It must come before callbacks that save.

    Raises:
        UsageError: names the first such weights.
    """

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(trainer, pl_module)

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (name := diverged(pl_module)) is not None:
            rule = "Weights must stay finite, which a lower lr or --trainer.gradient_clip_val may help"
            raise UsageError(f"{rule}, got NaN or infinity in {name} after update {trainer.global_step}.")


def diverged(module: nn.Module) -> str | None:
    """The name of the first parameter that is not finite, if any."""
    named = list(module.named_parameters())
    if not named:
        return None
    # one transfer from the device
    finite = torch.stack([parameter.detach().isfinite().all() for _, parameter in named]).tolist()
    return next((name for (name, _), holds in zip(named, finite, strict=True) if not holds), None)
