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
    options_of,
)
from lit_dcem.errors import UsageError

MARK = "only_what_is_there"


def spell_out(arguments: list[str]) -> list[str]:
    """Replace each config marked ``only_what_is_there: true`` by options, ``--model.init_args...=VALUE``.

    LightningCLI refuses what a class does not take. Such a config is for several classes: of its options, those of
    ``model`` and ``data`` remain that the classes of the configs before it take.

    Raises:
        UsageError: such a config without one before it.
    """
    check_configs(arguments)
    spelled: list[str] = []
    for typed, path in arguments_of(arguments):
        content = content_of(path)
        if content.pop(MARK, False):
            given = given_in(spelled)
            if not any(given.values()):
                raise UsageError(f"A config of {MARK} must come after another config, got {path} as the first.")
            spelled += [f"--{name}={json.dumps(value)}" for name, value in _options(content, given)]
        else:
            spelled += typed
    return spelled


def _options(content: Mapping[str, Any], given: Tree) -> Iterator[tuple[str, Any]]:
    """Full names and values of the options that are taken."""
    for name, value in content.items():
        if name in given:
            cls = class_of(given[name])
            if cls is not None:
                yield from _taken(value["init_args"], cls, given[name], f"{name}.init_args.")
        else:
            yield from _leaves(value, name)


def _taken(content: Mapping[str, Any], cls: type, part: Tree, prefix: str) -> Iterator[tuple[str, Any]]:
    """Those that a class takes, and of its own parts those of which the config, or the run it starts from, has one."""
    takes, inherited = options_of(cls), {ours for parts in getattr(cls, "inherits", {}).values() for ours in parts}
    for name, value in content.items():
        if not (isinstance(value, dict) and "init_args" in value):
            yield from _leaves(value, f"{prefix}{name}") if name in takes else ()
        elif isinstance(part.get(name), dict) or (name in inherited and part.get("start")):
            below = part.get(name, {})
            inner = class_of(below)
            if inner is None:  # that of the run it starts from
                yield from _leaves(value, f"{prefix}{name}")
            else:
                yield from _taken(value["init_args"], inner, below, f"{prefix}{name}.init_args.")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{name}.{key}")
    else:
        yield name, value
