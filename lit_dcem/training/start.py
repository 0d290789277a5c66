"""Start a run with weights that an earlier run has learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lit_dcem.errors import UsageError
from lit_dcem.files.checkpoint import load_weights
from lit_dcem.training.checkpoint import Checkpoint


def start_from(
    path: str,
    module: nn.Module,
    taken: Mapping[str, Sequence[str]],
    check_data: Callable[[Mapping[str, Any], str], None] | None = None,
    trust: Iterable[str] = (),
    also: Mapping[str, Mapping[str, str]] | None = None,
) -> Mapping[str, Tensor]:
    """Copy the weights of some parts of a module from the checkpoint of an earlier phase.

    Args:
        path: of the checkpoint, as `find_checkpoint` takes it; an export will do.
        module: of the later phase.
        taken: for each class of ours that it may start from, by name, the submodules to copy, which both have under the
            same names. A subclass counts as the nearest of these classes.
        check_data: takes the config of the checkpoint's data and the path, and raises a UsageError if the later run
            cannot use what was learned on that data; None if any data will do.
        trust: your own packages whose classes the checkpoint may name, besides those of the command line.
        also: for each class, more submodules, each with the name of the checkpoint's submodule that is copied into it
            if both exist.

    Returns:
        all weights of the checkpoint.

    Raises:
        UsageError: no checkpoint, or one of another phase, task or size, or of code that is not trusted.
    """
    checkpoint = Checkpoint.read(path, trust)
    given = nearest_class(checkpoint, type(module), taken)
    if check_data is not None:
        check_data(checkpoint.config.data, path)
    for part in taken[given]:
        load_weights(module.get_submodule(part), checkpoint.weights(part), path)
    present = dict(module.named_modules(remove_duplicate=False))
    for name, part in (also or {}).get(given, {}).items():
        weights = checkpoint.weights(part)
        if name in present and weights:
            load_weights(present[name], weights, path)
    return checkpoint.weights()


def nearest_class(checkpoint: Checkpoint, later: type, names: Iterable[str]) -> str:
    """Which of some classes, by name, the module of a checkpoint is, or descends from.

    Raises:
        UsageError: none; the later class cannot start from it.
    """
    found = checkpoint.nearest(names)
    if found is None:
        rule = f"{later.__name__} starts from a checkpoint of {' or '.join(names)}"
        raise UsageError(f"{rule}, got one of {checkpoint.module_class.__name__} in {checkpoint.path}.")
    return found
