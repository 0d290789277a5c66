"""Configs for several experiments, like the debug sizes: each takes of them what its classes have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lit_dcem.cli.configs import (
    Tree,
    arguments_of,
    check_configs,
    class_of,
    content_of,
    given_in,
    leaves,
    merged,
    options_of,
    plain,
)
from lit_dcem.errors import UsageError

MARK = "only_what_is_there"


def spell_out(arguments: list[str], found: Tree | None = None) -> list[str]:
    """Replace each config marked ``only_what_is_there: true`` by options, ``--model.init_args...=VALUE``.

    LightningCLI refuses what a class does not take. Such a config is for several classes: of its options, those of
    ``model`` and ``data`` remain that the classes of the configs before it take.

    Args:
        arguments: of the command line.
        found: what these configs leave open, if it is known (`lit_dcem.cli.completing`).

    Raises:
        UsageError: such a config without one before it.
    """
    check_configs(arguments)
    spelled: list[str] = []
    for typed, path in arguments_of(arguments):
        content = content_of(path)
        if content.pop(MARK, False):
            before = given_in(spelled)
            given = merged(plain(found or {}), before)
            if not any(before.values()):
                raise UsageError(f"A config of {MARK} must come after another config, got {path} as the first.")
            spelled += [f"--{name}={json.dumps(value)}" for name, value in _options(content, given)]
        else:
            spelled += typed
    return spelled


def _options(content: Mapping[str, Any], given: Tree) -> Iterator[tuple[str, Any]]:
    """Full names and values of the options that are taken."""
    for name, value in content.items():
        if name in ("model", "data"):
            cls = class_of(given[name])
            if cls is not None:
                yield from _taken(value["init_args"], cls, given[name], f"{name}.init_args.")
        else:
            yield from leaves({name: value})


def _taken(content: Mapping[str, Any], cls: type, part: Tree, prefix: str) -> Iterator[tuple[str, Any]]:
    """Those that a class takes, of the parts that are there."""
    takes = options_of(cls)
    for name, value in content.items():
        if not (isinstance(value, dict) and "init_args" in value):
            yield from leaves({name: value}, prefix) if name in takes else ()
        elif isinstance(part.get(name), dict):
            inner = class_of(part[name])
            if inner is not None:
                yield from _taken(value["init_args"], inner, part[name], f"{prefix}{name}.init_args.")


def without_overlays(arguments: list[str]) -> list[str]:
    """The arguments without configs of this kind."""
    pairs = arguments_of(arguments)
    return [word for typed, path in pairs if not content_of(path).get(MARK) for word in typed]
