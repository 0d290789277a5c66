"""What a training command says when it is done."""

from __future__ import annotations

import shlex
from pathlib import Path

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from lit_dcem.training.run_folder import CHECKPOINTS

NOTHING = "Nothing was trained, as there were no updates to make; there is no new run."
AT_ITS_END = "Nothing was left to train, as the run is at its end; to train on, raise trainer.max_epochs (or max_steps)"


def what_next(trainer: Trainer, folder: Path, resumed_from: str | None = None, trained: bool = True) -> str:
    """A line that says where everything of a run is, and what to type next.

    Args:
        trainer: has trained.
        folder: of the run.
        resumed_from: what was typed as ``--ckpt_path``, which resumes the same run again.
        trained: whether there were updates to make.
    """
    said, measured = [], folder / CHECKPOINTS / "last.ckpt"
    checkpoints = trainer.checkpoint_callback  # the first one
    if isinstance(checkpoints, ModelCheckpoint) and checkpoints.best_model_score is not None:
        measured = Path(checkpoints.best_model_path)
        said.append(f"best {checkpoints.monitor} {checkpoints.best_model_score:.3g}")
    if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        said.append(f"see its curves: tensorboard --logdir {_short(folder)}")
    if measured.is_file():
        said.append(f"measure it: lit-dcem evaluate --checkpoint {_short(measured)}")
        said.append(f"resume it: --ckpt_path {shlex.quote(resumed_from or 'last')}")
    return f"{'; '.join(['Done' if trained else AT_ITS_END, *said])}."


def _short(path: str | Path) -> str:
    """Seen from here, if it lies below."""
    path, here = Path(path).resolve(), Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
