"""Options that ``lit-dcem evaluate`` lays over the planner of a checkpoint: those that are given without a class."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonargparse import Namespace
from torch import nn

from lit_dcem.cli.configs import Tree, given_in, last_given, leaves, merged, named, plain
from lit_dcem.cli.parser import Parser
from lit_dcem.errors import UsageError, require
from lit_dcem.files.checkpoint import load_weights
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.evaluating import Evaluator, Own

HELP = re.compile(r"--planner(\.\w+)*\.help\b")
"""asks for options, and changes none"""


def changed_planner(arguments: list[str], evaluators: Sequence[Evaluator]) -> ChangedPlanner | None:
    """The checkpoint's planner, if options for it are given without a class; None if none are, or with one.

    Raises:
        UsageError: no checkpoint, one without such a planner, or an option that cannot be changed.
    """
    given = plain(_undotted(given_in([word for word in arguments if not HELP.match(word)], ("planner",))["planner"]))
    if not given or "class_path" in given:
        return None
    path, first = last_given("checkpoint", arguments), _first(given)
    if path is None:
        raise UsageError(f"--planner needs a class, or --checkpoint with a planner to change, got {first} alone.")
    checkpoint = Checkpoint.read(path)
    kind = checkpoint.module_class
    own = next((each.own for each in evaluators if issubclass(kind, each.modules)), None)
    if own is None:
        able = " or ".join(each.subject for each in evaluators if each.own is not None)
        raise UsageError(f"--planner needs {able}, got {kind.__name__}.")
    return ChangedPlanner(checkpoint, own, own.config(checkpoint), given)


@dataclass(frozen=True)
class ChangedPlanner:
    """The planner of a checkpoint, and what the command line says of it.

    Raises:
        UsageError: a planner whose config the checkpoint does not hold, or an option that cannot be changed.
    """

    checkpoint: Checkpoint
    own: Own
    config: Mapping[str, Any]
    """``class_path`` and ``init_args`` of the planner, as the checkpoint has them"""
    given: Tree
    """options without the ``init_args`` levels"""

    def __post_init__(self) -> None:
        whole = isinstance(self.config, Mapping) and isinstance(self.config.get("init_args"), Mapping)
        require(whole, "The config of a checkpoint must have a planner to change", f"none in {self.checkpoint.path}")
        kind = str(self.config.get("class_path")).rpartition(".")[2]
        for name in self.given:
            known = not self.own.options or name in (*self.own.options, *self.own.trained)
            require(known, f"--planner must change {_listed(self.own.options)} of a {kind}", f"--planner.{name}")
        there = {*self.config["init_args"], *self.own.optional}
        for name in (name for name in self.own.trained if name in self.given and name in there):
            rule, optional = f"--planner.{name} must stay as it was trained", name in self.own.optional
            goes = optional and self.given[name] is None
            require(goes, f"{rule}{', or be null' if optional else ''}", _first({name: self.given[name]}))

    def in_front(self, arguments: list[str]) -> list[str]:
        """The arguments with the checkpoint's planner in front, less the parts that are given with a class."""
        return [self._typed({**self.config, "init_args": _kept(self.config["init_args"], self.given)}), *arguments]

    def differences(self, parser: Parser, planner: Namespace) -> dict[str, dict[str, Any]]:
        """What a parsed planner has in place of the checkpoint's: the values ``from`` and ``to``, by option."""
        own = parser.parse_args([self._typed(self.config)]).planner
        differing = _differing(plain(own.as_dict()), plain(planner.as_dict()))
        return {name: {"from": before, "to": after} for name, before, after in differing}

    def built(self, build: Callable[[], nn.Module]) -> nn.Module:
        """The planner with the checkpoint's weights, in evaluation mode."""
        with self.checkpoint.limit():
            planner = build()
        gone = {name for name, value in self.given.items() if value is None}
        weights = self.checkpoint.weights(self.own.part)
        kept = {name: value for name, value in weights.items() if name.partition(".")[0] not in gone}
        load_weights(planner, kept, self.checkpoint.path)
        return planner.eval()

    def _typed(self, config: Mapping[str, Any]) -> str:
        try:
            return f"--config={json.dumps({'planner': config})}"
        except TypeError as error:
            rule = f"The config in {self.checkpoint.path} must be plain data"
            raise UsageError(f"{rule}, got others ({error}).") from error


def in_words(differences: Mapping[str, Mapping[str, Any]]) -> str:
    """What differs, for the table."""
    listed = [f"{name} {_short(each['to'])} (was {_short(each['from'])})" for name, each in differences.items()]
    return f"The checkpoint's planner with {', '.join(listed)}." if listed else "The checkpoint's planner as it is."


def _undotted(given: Tree) -> Tree:
    """A tree in which ``{"solver.temperature": 0}``, which a parser takes, has the levels that it means."""
    whole: Tree = {}
    for name, value in given.items():
        first, dot, rest = name.partition(".")
        inner = {rest: value} if dot else value
        whole = merged(whole, {first: _undotted(inner) if isinstance(inner, dict) else inner})
    return whole


def _kept(own: Mapping[str, Any], given: Tree) -> Tree:
    """The options of a checkpoint's planner, less the parts that are given with a class and so begin anew.

    Otherwise a text of the checkpoint would become an option of another class than the one it was checked for.
    """
    kept: Tree = {}
    for name, value in own.items():
        more = given.get(name)
        if name not in given:
            kept[name] = value
        elif isinstance(value, Mapping) and isinstance(more, dict) and "class_path" not in more:
            inner = value.get("init_args")
            below = {"init_args": _kept(inner if isinstance(inner, Mapping) else {}, more)}
            kept[name] = {**value, **below} if "class_path" in value else _kept(value, more)
    return kept


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _first(given: Tree) -> str:
    """The first option that was typed, by its whole name."""
    return next(f"--planner.{name}={value}" for name, value in leaves(given))


def _differing(before: Tree, after: Tree, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Names and values of options that differ; a part of another class as a whole."""
    for name, value in after.items():
        there = before.get(name)
        if isinstance(there, dict) and isinstance(value, dict) and there.get("class_path") == value.get("class_path"):
            yield from _differing(there, value, f"{path}{name}.")
        elif there != value:
            yield f"{path}{name}", there, value


def _short(value: Any) -> str:
    """A value as it is typed, or the class of a part."""
    if isinstance(value, Mapping) and "class_path" in value:
        return value["class_path"].rpartition(".")[2]
    return value if isinstance(value, str) else named(value) if callable(value) else json.dumps(value, default=named)
