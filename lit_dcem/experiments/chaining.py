"""Where one phase of PlaNet begins with what an earlier one has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lit_dcem.checkpoint import check_weights, read_checkpoint, shipped
from lit_dcem.data.environment_data import EnvironmentData
from lit_dcem.errors import UsageError


def start_from(path: str, module: nn.Module, taken: Mapping[str, Sequence[str]], rollouts: EnvironmentData) -> None:
    """Take over the weights of some parts of a module from the checkpoint of an earlier phase.

    Args:
        path: of the checkpoint; an exported one will do, and ``checkpoints/NAME`` also finds the shipped ones.
        module: of the later phase.
        taken: for each class that it may start from, by name, the names of the submodules that it takes over, which
            both have by the same names.
        rollouts: of the later phase, which must be of the same task.

    Raises:
        UsageError: no checkpoint, or one of another phase, task or size.
    """
    checkpoint = read_checkpoint(_found(path))
    given = str(checkpoint.get("hyper_parameters", {}).get("_class_path")).removeprefix("lit_dcem.")
    if given not in taken:
        rule = f"{type(module).__name__} starts from a checkpoint of {' or '.join(taken)}"
        raise UsageError(f"{rule}, got one of {given} in {path}.")
    options = checkpoint.get("datamodule_hyper_parameters", {})
    theirs, ours = (_task(given) for given in (options, vars(rollouts)))
    if theirs != ours:
        raise UsageError(f"A phase must go on with the task of the one before, {theirs} in {path}, got {ours}.")
    for part in taken[given]:
        weights = {
            name.removeprefix(f"{part}."): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(f"{part}.")
        }
        own = module.get_submodule(part)
        check_weights(own, {"state_dict": weights}, path)
        own.load_state_dict(weights)


def _task(options: Mapping[str, Any]) -> str:
    own = options.get("env_options")
    named = f" and env_options {dict(sorted(own.items()))}" if own else ""
    return f"{options.get('env')} with action repeat {options.get('action_repeat')}{named}"


def _found(path: str) -> Path:
    beside = shipped("checkpoints").parent / path
    return beside if not Path(path).is_file() and beside.is_file() else Path(path)
