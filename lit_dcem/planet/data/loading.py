"""The data of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lit_dcem.files.checkpoint import read_checkpoint
from lit_dcem.planet.data.environment_data import EnvironmentData
from lit_dcem.training.runs import rebuilt


def load_rollouts(path: str | Path, trust: Iterable[str] = ()) -> EnvironmentData:
    """The datamodule of a checkpoint that learned in an environment, rebuilt from its config.

    Args:
        path: of the checkpoint.
        trust: as in `load_module`, for environments, too.

    Raises:
        UsageError: a checkpoint without one, or one that names code that is not trusted.
    """
    return rebuilt(EnvironmentData, read_checkpoint(path), "datamodule_hyper_parameters", path, trust)
