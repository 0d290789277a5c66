"""Pictures and videos of PlaNet's episodes in TensorBoard."""

from __future__ import annotations

import io
from typing import Any

import imageio.v2 as imageio
import pytorch_lightning as pl
from jaxtyping import UInt8
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from lit_dcem.data.environment_data import EnvironmentData
from lit_dcem.data.evaluation_episodes import Evaluation
from lit_dcem.errors import UsageError
from lit_dcem.experiments.planet import Planet
from lit_dcem.figures.planet_rollout import imagined_rollout

EVERY = 4
"""steps between two frames of the video"""
SHRINK = 2
"""pixels of a frame for one of the video, in both directions"""
FRAMES_PER_SECOND = 12


class PlanetPlots(pl.Callback):
    """Logs, of the first episode of a validation, what the model imagines beside what happened, and a video.

    Without OpenGL there is one warning in place of the videos. Draws no noise from the generators of training.

    Args:
        video: draw the episode, which takes some seconds; else only what the model imagines.
    """

    def __init__(self, video: bool = True) -> None:
        self.video = video

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rollouts = _rollouts(trainer)
        if self.video and rollouts is not None and trainer.is_global_zero and _writers(trainer):
            self.video = _can_film(rollouts)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rollouts = _rollouts(trainer)
        if rollouts is not None:
            due = self.video and trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking
            rollouts.filming = due and bool(_writers(trainer))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Evaluation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        due = trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking
        if not due or not isinstance(pl_module, Planet) or len(batch.actions) < 2:
            return
        for logger in _writers(trainer):
            figure = imagined_rollout(pl_module.world_model, pl_module.scale, batch)
            logger.experiment.add_figure("imagined", figure, trainer.global_step)
            if len(batch.frames):
                # add_video would want moviepy, which encodes a GIF for just this entry.
                video = Summary(value=[Summary.Value(tag="episode", image=_gif(batch.frames))])
                logger.experiment._get_file_writer().add_summary(video, trainer.global_step)


def _rollouts(trainer: pl.Trainer) -> EnvironmentData | None:
    rollouts = getattr(trainer, "datamodule", None)
    return rollouts if isinstance(rollouts, EnvironmentData) else None


def _writers(trainer: pl.Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


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


def _gif(frames: UInt8[Tensor, "frames height width 3"]) -> Summary.Image:
    small = frames[::EVERY, ::SHRINK, ::SHRINK].cpu().numpy()
    encoded = io.BytesIO()
    imageio.mimwrite(encoded, list(small), format="GIF", duration=1000 / FRAMES_PER_SECOND, loop=0)  # pyright: ignore[reportArgumentType]
    _, height, width, _ = small.shape
    return Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded.getvalue())
