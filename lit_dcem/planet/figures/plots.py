"""Pictures and videos of PlaNet's episodes among the curves."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import EnvironmentData
from lit_dcem.planet.data.evaluation_episodes import Evaluation
from lit_dcem.planet.figures.rollout import imagined_rollout
from lit_dcem.planet.phases.planet import Planet
from lit_dcem.training.pictures import drawing_loggers, is_due, log_figure, log_video, warn_without_pictures

EVERY = 4
"""steps between two frames of the video"""
SHRINK = 2
"""pixels of a frame for one of the video, in both directions"""


class PlanetPlots(pl.Callback):
    """Logs, of the first episode of a validation, what the model imagines next to what happened, and a video.

    Without OpenGL there is one warning in place of the videos. Draws no noise from the generators of training.

    Args:
        video: film the episode, which takes some seconds; if false, log only what the model imagines.
    """

    def __init__(self, video: bool = True) -> None:
        self.video = video
        self._drawn: tuple[Figure, Tensor] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        warn_without_pictures(trainer)
        rollouts = _rollouts(trainer)
        if self.video and rollouts is not None and trainer.is_global_zero and drawing_loggers(trainer):
            self.video = _can_film(rollouts)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rollouts = _rollouts(trainer)
        if rollouts is not None:
            rollouts.filming = self.video and is_due(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Evaluation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw while the weights are those of the validation, which averaged ones are only until its end."""
        self._drawn = None
        if is_due(trainer) and isinstance(pl_module, Planet) and len(batch.actions) > 1:
            figure = imagined_rollout(pl_module.world_model, batch)
            self._drawn = figure, batch.frames[::EVERY, ::SHRINK, ::SHRINK]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._drawn is not None:
            figure, frames = self._drawn
            log_figure(trainer, "imagined", figure)
            if len(frames):
                log_video(trainer, "episode", frames)
        self._drawn = None


def _rollouts(trainer: pl.Trainer) -> EnvironmentData | None:
    rollouts = getattr(trainer, "datamodule", None)
    return rollouts if isinstance(rollouts, EnvironmentData) else None


def _can_film(rollouts: EnvironmentData) -> bool:
    """Draw once before training: what is missing should not be said an hour later."""
    envs = rollouts.make_envs(1, 0)
    envs.reset()
    try:
        envs.render(0, 8, 8)
    except UsageError as error:
        rank_zero_warn(f"There will be no videos. {error}")
        return False
    return True
