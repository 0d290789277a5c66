"""Phases of a sweep, each of which starts from the one before, and what is wrong with those that were typed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from lit_dcem.cli.sweep.process import as_options
from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import shipped_file

SEED = "seed_everything"
PARTS = {"configs": list, "starts": dict, "arguments": dict}
"""of a phase, besides its name; all but the configs may be left out"""


@dataclass(frozen=True)
class Phase:
    """What one phase has in common at all points of the grid; a sweep without chains is a single one without labels."""

    configs: list[Path]
    arguments: dict[str, Any]
    labels: dict[str, Any] = field(default_factory=dict)
    """columns of its own in the tables: ``task`` and ``phase``"""
    starts: dict[str, str] = field(default_factory=dict)
    """options, and the paths inside the folder of the run before that are their values"""


def read_chains(content: dict[str, Any], file: Path) -> list[list[Phase]]:
    """The chains of a sweep file, checked."""
    return [_read_chain(name, phases, content, file) for name, phases in content["chains"].items()]


def _read_chain(name: Any, phases: Any, content: dict[str, Any], file: Path) -> list[Phase]:
    if not isinstance(name, str) or not name:
        _refuse("Chains must be named by text that is not empty", name, file)
    if not isinstance(phases, list) or not phases:
        _refuse(f"The chain {name} must be a list of phases that is not empty", phases, file)
    if isinstance(phases[0], dict) and phases[0].get("starts"):
        _refuse(f"The first phase of {name} has none to start from", phases[0]["starts"], file)
    labels = [{"task": name, "phase": _label(each, i, file)} for i, each in enumerate(phases, 1)]
    taken = [str(each["phase"]) for each in labels]
    if len(set(taken)) < len(taken):
        _refuse(f"The phases of {name} must have different names", ", ".join(taken), file)
    return [_read_phase(own, each, content, file) for own, each in zip(labels, phases, strict=True)]


def _label(given: Any, position: int, file: Path) -> Any:
    """The name of a phase: its own, or else its position in the chain."""
    label = given.get("phase", position) if isinstance(given, dict) else position
    if type(label) not in (int, str) or label == "":
        _refuse("The name of a phase must be text or a whole number", repr(label), file)
    return label


def _read_phase(labels: dict[str, Any], given: Any, content: dict[str, Any], file: Path) -> Phase:
    where = f"phase {labels['phase']} of {labels['task']}"
    if not isinstance(given, dict) or not given.keys() <= {"phase", *PARTS}:
        _refuse(f"{where} must have configs, and may have starts, arguments and phase alone", given, file)
    parts = {name: given.get(name, kind()) for name, kind in PARTS.items()}
    for name, kind in PARTS.items():
        if not isinstance(parts[name], kind) or not (parts[name] or name != "configs"):
            _refuse(f"{name} in {where} must be a {kind.__name__} that is not empty", parts[name], file)
    starts, own = parts["starts"], parts["arguments"]
    check_options([*own.items(), *starts.items()], file)
    arguments = {**content["arguments"], **own}
    for option in content["grid"].keys() & (own.keys() | starts.keys()) or arguments.keys() & starts.keys():
        _refuse(f"An option in {where} must be given once: by the grid, arguments or starts", option, file)
    for path in starts.values():
        if not isinstance(path, str) or not path or Path(path).is_absolute() or ".." in Path(path).parts:
            _refuse(f"starts in {where} must be paths inside the folder of the run before", path, file)
    return Phase(paths_of(parts["configs"], file), arguments, labels, starts)


def paths_of(configs: Iterable[Any], file: Path) -> list[Path]:
    """Configs are named as seen from the sweep file; where there is no such file, the name is that of a shipped one."""
    return [_path_of(str(config), file) for config in configs]


def _path_of(config: str, file: Path) -> Path:
    path = file.parent / config
    return path if os.path.isfile(path) else shipped_file(config, "configs") or path


def check_options(options: Iterable[tuple[Any, Any]], file: Path) -> None:
    """See that a command line can hold them."""
    for key, value in options:
        if not isinstance(key, str):
            raise UsageError(f"Options of a sweep must be named by text, got {key} in {file}.")
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            if b"\0" not in os.fsencode("".join(as_options({key: value}))):
                continue
        raise UsageError(f"Options of a sweep must have plain values, got others for {key} in {file}.")


def _refuse(rule: str, got: Any, file: Path) -> NoReturn:
    raise UsageError(f"{rule[0].upper()}{rule[1:]}, got {got} in {file}.")
