"""What the configs and options of a command say together, before a parser sees them."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

import lit_dcem
from lit_dcem.errors import UsageError

Tree = dict[str, Any]
DEEPEST = 100
"""levels of a config"""
OPTIONS = ("--config", "-c")
PARTS = ("model", "data", "trainer")


def arguments_of(arguments: list[str]) -> Iterator[tuple[list[str], str | None]]:
    """The words of each argument, and the path in them if it is a config."""
    words = iter(arguments)
    for word in words:
        name, equals, path = word.partition("=")
        if name not in OPTIONS:
            yield [word], None
        elif equals:
            yield [word], path
        else:
            following = next(words, None)
            yield ([word], None) if following is None else ([word, following], following)


def check_configs(arguments: list[str]) -> None:
    """Raise a UsageError for a config that a parser would choke on: no text, or a tree that contains itself."""
    for _, path in arguments_of(arguments):
        if path and os.path.isfile(path):  # not one that is typed on the command line itself
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


def content_of(path: str | None) -> Tree:
    """The content of a config, which may also be typed as it is; nothing if the parser has to say what is wrong."""
    try:
        content = yaml.safe_load(Path(path).read_text() if os.path.isfile(path) else path) if path else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> Tree:
    """Both configs as one, where the second overrides the first; options after a text are of the class it names."""
    whole = dict(before)
    for name, value in after.items():
        there = whole.get(name)
        there = {"class_path": there} if isinstance(there, str) else there
        whole[name] = merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return whole


def given_in(arguments: list[str], parts: tuple[str, ...] = PARTS) -> Tree:
    """What configs and options say of some parts, each as a `plain` tree; the last word counts."""
    given: Tree = {part: {} for part in parts}
    words = [word for typed, path in arguments_of(arguments) for word in (typed if path is None else [path, None])]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if following is None:
            content = content_of(word)
            given = merged(given, _named({part: content[part] for part in parts if part in content}))
        elif word is not None and word.startswith(tuple(f"--{part}" for part in parts)):
            name, equals, value = word.removeprefix("--").partition("=")
            value = value if equals else "" if following.startswith("--") else following
            given = merged(given, _named(_tree(name.split("."), _value(value))))
    return {part: given[part] if isinstance(given[part], dict) else {} for part in parts}


def check_named(arguments: list[str]) -> None:
    """Raise a UsageError for options of a model or data whose class no config or option names."""
    for part, options in given_in(arguments, ("model", "data")).items():
        if options and not options.keys() & {"class_path", "help"}:
            first = next((path for _, path in arguments_of(arguments) if path), None)
            rule = f"The options of a {part} need a config before them that names its class, such as --config phase2"
            raise UsageError(f"{rule}, got {'none' if first is None else f'{first} as the first'}.")


def last_given(name: str, arguments: list[str]) -> str | None:
    """What configs and the option ``--NAME`` say last; None if nothing, or null."""
    found, waits = None, False
    for (word, *_), path in arguments_of(arguments):
        option, equals, value = word.partition("=")
        if path is not None:
            found = content_of(path).get(name, found)
        elif waits or (equals and option == f"--{name}"):
            found = word if waits else value
        waits = path is None and word == f"--{name}" and not waits
    return None if found in (None, "null") else str(found)


def _named(tree: Tree) -> Tree:
    """A `plain` tree, in which a model or data given by the name of a class alone has its path."""
    return {part: {"class_path": value} if isinstance(value, str) else value for part, value in plain(tree).items()}


def _tree(names: list[str], value: Any) -> Any:
    return {names[0]: _tree(names[1:], value)} if names else value


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of all options in a tree, as they are typed; tuples as lists. An empty mapping is a value."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", list(value) if isinstance(value, tuple) else value


def plain(tree: Any) -> Any:
    """A config without its ``init_args`` levels, as options are typed in short."""
    if not isinstance(tree, dict):
        return tree
    inner = tree.get("init_args")
    flat = {**{k: v for k, v in tree.items() if k != "init_args"}, **(inner if isinstance(inner, dict) else {})}
    return {str(name): plain(value) for name, value in flat.items()}


def named(value: Any) -> str:
    """A function or class by its path, as a config names it; anything else as text."""
    name = getattr(value, "__qualname__", None)
    return str(value) if name is None else f"{value.__module__}.{name}"


def class_of(part: Mapping[str, Any] | Namespace) -> type | None:
    """The class that a part of a config names; None where the parser has to say what is wrong."""
    path = part.get("class_path")
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    try:
        found = getattr(import_module(module) if module else lit_dcem, name)
    except Exception:  # whatever a module does when it is imported; the parser imports it again
        return None
    return found if isinstance(found, type) else None


def options_of(cls: type) -> set[str]:
    """The options that a class takes, as the parser sees them."""
    parser = ArgumentParser(exit_on_error=False)
    return {name.partition(".")[0] for name in parser.add_class_arguments(cls, None, fail_untyped=False)}
