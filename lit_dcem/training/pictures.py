"""Pictures and videos for every logger that can take them."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytorch_lightning as pl
from jaxtyping import UInt8
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CometLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lit_dcem.training.curves import Curves

GROUP = "pictures"
"""of the tags"""
FRAMES_PER_SECOND = 12
TAKE_PICTURES = (TensorBoardLogger, WandbLogger, MLFlowLogger, CometLogger)
TAKE_VIDEOS = (TensorBoardLogger, WandbLogger, MLFlowLogger)


def drawing_loggers(trainer: pl.Trainer) -> list[Logger]:
    """The loggers of a run that take pictures."""
    return [logger for logger in trainer.loggers if isinstance(logger, TAKE_PICTURES)]


def warn_without_pictures(trainer: pl.Trainer) -> None:
    """Say once that there will be no pictures, if loggers are there and none takes them."""
    given = [logger for logger in trainer.loggers if not isinstance(logger, (Curves, DummyLogger))]  # of fast_dev_run
    if given and not drawing_loggers(trainer):
        names = ", ".join(type(logger).__name__ for logger in given)
        rank_zero_warn(f"Pictures need a logger that takes them, such as TensorBoardLogger, got {names}.")


def is_due(trainer: pl.Trainer, every_n_epochs: int = 1) -> bool:
    """Whether a validation of training is to be drawn, by this process, for some logger."""
    due = trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking
    return due and trainer.current_epoch % every_n_epochs == 0 and bool(drawing_loggers(trainer))


class Pictures(pl.Callback, ABC):
    """Logs a figure of a module after validations.

    Args:
        every_n_epochs: draw every this many epochs.

    Raises:
        ValueError: ``every_n_epochs`` below 1.
    """

    kind: type[pl.LightningModule]
    """of the modules that it can draw"""
    title: str
    """of the figure in the logs"""

    def __init__(self, every_n_epochs: int = 5) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}.")
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def picture(self, module: Any) -> Figure:
        """The figure of a module of that kind; must draw no noise from the generators of training."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        warn_without_pictures(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_due(trainer, self.every_n_epochs) and isinstance(pl_module, self.kind):
            log_figure(trainer, self.title, self.picture(pl_module))


def logged_step(trainer: pl.Trainer) -> int:
    """Where on the axis the metrics of the validation that has just ended were logged."""
    step = trainer.callback_metrics.get("step")
    return trainer.global_step - 1 if step is None else int(step)


def log_figure(trainer: pl.Trainer, name: str, figure: Figure) -> None:
    """Give a figure to every logger that takes it, as ``pictures/NAME``, at the step of the last validation."""
    step = logged_step(trainer)
    for logger in drawing_loggers(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(f"{GROUP}/{name}", figure, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(f"{GROUP}/{name}", [figure])
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_figure(logger.run_id, figure, f"{GROUP}/{name}/{step}.png")
        elif isinstance(logger, CometLogger):
            logger.experiment.log_figure(f"{GROUP}/{name}", figure, step=step)


def log_video(trainer: pl.Trainer, name: str, frames: UInt8[Tensor, "frames height width 3"]) -> None:
    """Give a video, as an animated GIF, to every logger that takes it; tag and step are as in `log_figure`."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TAKE_VIDEOS)]
    if not loggers:
        return
    step, gif = logged_step(trainer), _gif(frames.cpu().numpy())
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            _add_gif(logger.experiment, f"{GROUP}/{name}", gif, tuple(frames.shape[1:3]), step)
        elif isinstance(logger, WandbLogger):
            import wandb  # pyright: ignore[reportMissingImports]

            video: Any = wandb.Video(io.BytesIO(gif), format="gif")
            logger.experiment.log({f"{GROUP}/{name}": video})
        elif isinstance(logger, MLFlowLogger):
            _log_artifact(logger, gif, f"{GROUP}/{name}", f"{step}.gif")


def _add_gif(writer: Any, tag: str, gif: bytes, size: tuple[int, ...], step: int) -> None:
    """`SummaryWriter.add_video` would want moviepy, which encodes a GIF for just this entry."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=gif)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def _log_artifact(logger: MLFlowLogger, content: bytes, folder: str, name: str) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        path = Path(place, name)
        path.write_bytes(content)
        logger.experiment.log_artifact(logger.run_id, str(path), folder)


def _gif(frames: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    imageio.mimwrite(encoded, list(frames), format="GIF", duration=1000 / FRAMES_PER_SECOND, loop=0)  # pyright: ignore[reportArgumentType]
    return encoded.getvalue()
