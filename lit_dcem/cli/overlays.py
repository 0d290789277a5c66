"""Configs that override part of several others, like the debug sizes of all phases of PlaNet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lit_dcem.errors import UsageError

MARK = "only_what_is_there"
DEEPEST = 100
"""levels of a config"""
OPTIONS = ("--config", "-c")


def spell_out(arguments: list[str]) -> list[str]:
    """Replace each config that is marked ``only_what_is_there: true`` by options, ``--model.init_args...=VALUE``.

    LightningCLI refuses what a class does not know. Such a config is for several classes: it has values for the options
    that the configs before it have, and the others are left out.

    Raises:
        UsageError: such a config without one before it.
    """
    check_configs(arguments)
    spelled: list[str] = []
    before: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        typed, path = _config(word, words)
        content = _content(path)
        if content.pop(MARK, False):
            if not before:
                raise UsageError(f"A config of {MARK} must come after another config, got {path} as the first.")
            spelled += [f"--{name}={json.dumps(value)}" for name, value in _leaves(content, before)]
        else:
            spelled += typed
            before = _merged(before, content)
    return spelled


def check_configs(arguments: list[str]) -> None:
    """Raise a UsageError for a config that a parser would choke on: no text, or a tree that contains itself."""
    words = iter(arguments)
    for word in words:
        path = _config(word, words)[1]
        if path and Path(path).is_file():
            try:
                _check_depth(yaml.safe_load(Path(path).read_text(encoding="utf-8")), path)
            except UnicodeDecodeError as error:
                raise UsageError(f"A config must be text in UTF-8, got other bytes in {path}.") from error
            except RecursionError:
                raise UsageError(f"A config must have at most {DEEPEST} levels, got more in {path}.") from None
            except yaml.YAMLError:  # the parser says where
                continue


def _check_depth(value: Any, path: str, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise UsageError(f"A config must have at most {DEEPEST} levels, got more in {path}.")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        _check_depth(child, path, depth + 1)


def _config(word: str, words: Iterator[str]) -> tuple[list[str], str | None]:
    """What was typed, and the path in it if it is a config."""
    name, given, path = word.partition("=")
    if name not in OPTIONS:
        return [word], None
    if given:
        return [word], path
    following = next(words, None)
    return [word] if following is None else [word, following], following


def _content(path: str | None) -> dict[str, Any]:
    """Of a config; nothing if it cannot be read, which the parser will say."""
    try:
        content = yaml.safe_load(Path(path).read_text()) if path else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _leaves(content: Mapping[str, Any], before: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full names and values of those options that are there."""
    for name, value in content.items():
        if name in before:
            there = before[name]
            if isinstance(value, dict) and isinstance(there, dict):
                yield from _leaves(value, there, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value


def _merged(before: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    whole = dict(before)
    for name, value in content.items():
        there = whole.get(name)
        whole[name] = _merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return whole
