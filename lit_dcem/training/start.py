"""Where a run begins with what an earlier one has learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lit_dcem.errors import UsageError
from lit_dcem.files.checkpoint import load_weights, read_checkpoint
from lit_dcem.files.safe_config import find_class
from lit_dcem.files.shipped import find_shipped
from lit_dcem.files.trust import reader


def start_from(
    path: str,
    module: nn.Module,
    taken: Mapping[str, Sequence[str]],
    check_data: Callable[[Mapping[str, Any], str], None] | None = None,
    trust: Iterable[str] = (),
    also: Mapping[str, Mapping[str, str]] | None = None,
) -> Mapping[str, Tensor]:
    """Take over the weights of some parts of a module from the checkpoint of an earlier phase.

    Args:
        path: of the checkpoint; an exported one will do, and ``checkpoints/NAME`` also finds the shipped ones.
        module: of the later phase.
        taken: for each class of ours that it may start from, by name, the names of the submodules that it takes over,
            which both have by the same names. Subclasses are taken as the nearest of these.
        check_data: is given the config of the checkpoint's data and the path, and raises a UsageError if the later run
            cannot go on from there; none if there is nothing to mix up.
        trust: your own packages whose classes the checkpoint may name, beside those of the command line.
        also: for each class, the names of more submodules, each with the name of the checkpoint's submodule that it
            takes over if both are there.

    Returns:
        all weights of the checkpoint.

    Raises:
        UsageError: no checkpoint, or one of another phase, task or size, or of code that is not trusted.
    """
    checkpoint = read_checkpoint(find_shipped(path, "checkpoints"))
    cls = find_class(checkpoint.get("hyper_parameters", {}).get("_class_path"), reader(path, trust))
    ours = (base.__name__ for base in cls.__mro__ if base.__module__.startswith("lit_dcem."))
    given = next((name for name in ours if name in taken), None)
    if given is None:
        rule = f"{type(module).__name__} starts from a checkpoint of {' or '.join(taken)}"
        raise UsageError(f"{rule}, got one of {cls.__name__} in {path}.")
    if check_data is not None:
        check_data(checkpoint.get("datamodule_hyper_parameters", {}), path)
    for part in taken[given]:
        load_weights(module.get_submodule(part), _weights(checkpoint, part), path)
    present = dict(module.named_modules(remove_duplicate=False))
    for name, part in (also or {}).get(given, {}).items():
        weights = _weights(checkpoint, part)
        if name in present and weights["state_dict"]:
            load_weights(present[name], weights, path)
    return checkpoint["state_dict"]


def _weights(checkpoint: Mapping[str, Any], part: str) -> dict[str, dict[str, Any]]:
    """Those of a submodule, by its own names."""
    names = [name for name in checkpoint["state_dict"] if name.startswith(f"{part}.")]
    return {"state_dict": {name.removeprefix(f"{part}."): checkpoint["state_dict"][name] for name in names}}
