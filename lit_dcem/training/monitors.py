"""What callbacks and schedulers watch, checked before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytorch_lightning as pl

from lit_dcem.errors import UsageError

ALWAYS = ("epoch", "step", "lr-")
"""beginnings of what Lightning itself can be asked to watch"""
MOST_NAMED = 10
"""metrics that a sentence lists"""


class Monitors(pl.Callback):
    """Refuses to train where something watches a metric that a module of ours never logs: an epoch later is late.

    A module says what it logs in ``metrics``; of other classes nothing is known, and nothing checked.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = getattr(pl_module, "metrics", ())
        if not logged or not type(pl_module).__module__.startswith("lit_dcem."):
            return
        for name, monitor in _watched(trainer):
            if monitor not in logged and not monitor.startswith(ALWAYS):
                rule = f"{name} must watch what {type(pl_module).__name__} logs"
                raise UsageError(f"{rule} ({_listed(logged)}), got {monitor or 'nothing'}.")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _watched(trainer: pl.Trainer) -> Iterator[tuple[str, str]]:
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str):
            yield type(callback).__name__, monitor
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.monitor, str) and config.reduce_on_plateau:
            yield type(config.scheduler).__name__, config.monitor
