"""A checkpoint as a file: read it, and check that its weights fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_dcem.errors import UsageError

PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """``checkpoints`` or ``configs``: beside the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a Lightning checkpoint, on the CPU.

    Raises:
        UsageError: no such file, or not a whole checkpoint of Lightning.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"A checkpoint must be an existing file, got {path}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for truncated and foreign files
        raise UsageError(f"{path} is not a whole checkpoint ({type(error).__name__}): use another one.") from error
    if not isinstance(content, dict) or not {"state_dict", "global_step"} <= content.keys():
        raise UsageError(f"{path} is not a checkpoint of Lightning: use one that lit-dcem fit wrote.")
    return content


def check_weights(module: nn.Module, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Raise a UsageError if the checkpoint's weights are not those of the module."""
    theirs = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            got = f"{theirs.get(name, 'none')} and {ours.get(name, 'none')}"
            raise UsageError(f"The weights in {path} must have the shapes of the model, got {got} for {name}.")
