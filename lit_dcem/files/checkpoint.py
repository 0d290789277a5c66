"""A checkpoint as a file: read it, and check that its weights fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_dcem.errors import UsageError, require
from lit_dcem.files.archive import check_archive

KINDS: dict[str, type] = {
    "state_dict": dict,
    "global_step": int,
    "epoch": int,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "callbacks": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""what Lightning writes under these names"""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a Lightning checkpoint, on the CPU; every byte of it is compared with its checksum.

    Raises:
        UsageError: no such file, or not a whole checkpoint of Lightning.
    """
    content = read_file(path)
    _check_content(content, Path(path))
    return content


def read_file(path: str | Path) -> Any:
    """What ``torch.save`` wrote: tensors, numbers, text and containers alone, on the CPU.

    Raises:
        UsageError: no such file, or one that is damaged or holds something else.
    """
    check_local(path)
    path = Path(path)
    require(path.is_file(), "A checkpoint must be an existing file", path)
    check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for truncated and foreign files
        raise UsageError(f"{path} is not a whole checkpoint ({type(error).__name__}): use another one.") from error


def check_local(path: str | Path) -> None:
    """Raise a UsageError for the address of a file on another machine."""
    require("://" not in str(path), "A checkpoint must be a local file: download it first", path)


def _check_content(content: Any, path: Path) -> None:
    if not isinstance(content, dict) or not {"state_dict", "global_step"} <= content.keys():
        raise UsageError(f"{path} is not a checkpoint of Lightning: use one that lit-dcem fit wrote.")
    for name, kind in KINDS.items():
        value = content.get(name)
        fits = name not in content or (isinstance(value, kind) and not isinstance(value, bool))
        require(fits, f"{name} of a checkpoint must be a {kind.__name__}", f"{type(value).__name__} in {path}")
        odd = [key for key in value if not isinstance(key, str)] if isinstance(value, dict) else []
        require(not odd, f"Names in {name} of a checkpoint must be text", f"{(odd or [''])[0]!r:.100} in {path}")
    step = content["global_step"]
    require(step >= 0, "global_step of a checkpoint must be at least 0", f"{step} in {path}")


def check_weights(module: nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Raise a UsageError unless the weights of a checkpoint have the names and shapes of the module's."""
    theirs, ours = (_shapes(each, path) for each in (weights, module.state_dict()))
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            got = f"{theirs.get(name, 'none')} and {ours.get(name, 'none')}"
            raise UsageError(f"The weights in {path} must have the shapes of the model, got {got} for {name}.")


def load_weights(module: nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Give a module the weights of a checkpoint.

    Raises:
        UsageError: weights of another module.
    """
    check_weights(module, weights, path)
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"The weights in {path} must fit the model, got others ({reason}).") from error


def _shapes(weights: Mapping[str, Any], path: str | Path) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, value in weights.items():
        if name.endswith("_extra_state"):  # what a module saves besides its weights, of any type
            continue
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_complex() or value.is_quantized:
            kind = f"a {value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"The weights in {path} must be dense tensors of numbers, got {kind} for {name}.")
        shapes[name] = tuple(value.shape)
    return shapes
