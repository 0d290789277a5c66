"""Check the config of a checkpoint before anything is built: only what is trusted may be imported."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, cast

import pytorch_lightning as pl
import torch
import yaml
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from lit_dcem.errors import UsageError
from lit_dcem.files.trust import Reader, can_import, is_remembered

BASES = (nn.Module, pl.LightningDataModule, Optimizer, LRScheduler)
"""what an experiment is made of"""
OURS = ("lit_dcem.", "torch.nn.", "torch.optim.")
"""beginnings of modules that may be imported; others of torch run commands and load files"""
DEEPEST = 40
"""levels of a config"""
LONGEST_TEXT = 10_000
"""characters of a text that jsonargparse might read as YAML"""
PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
"""what jsonargparse would import"""
YamlLoader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""reads what jsonargparse's loader reads, and makes nothing of it"""


def check_config(config: Mapping[str, Any], by: Reader) -> type:
    """Check everything that building a module or datamodule from its config would import; return its class.

    Raises:
        UsageError: a class or function that is neither of lit_dcem, torch or Lightning nor trusted.
    """
    cls = find_class(config.get("_class_path"), by)
    _check_arguments(cls, {name: value for name, value in config.items() if name != "_class_path"}, by, 0)
    return cls


def find_class(name: object, by: Reader) -> type:
    """The class that a checkpoint names; its module is imported only if it is one of ours, or trusted.

    Raises:
        UsageError: what is not trusted, or no class that an experiment is made of.
    """
    found = _find(name, by)
    if not isinstance(found, type):
        raise UsageError(f"A checkpoint must name a class, got {name} in {by.path}.")
    return found


def _find(name: object, by: Reader) -> Callable[..., Any]:
    """The class, or function of a trusted package, that a checkpoint names."""
    if not isinstance(name, str) or not PATH.fullmatch(name):
        rule = "A checkpoint must name the class of each of its parts, like lit_dcem.Rollouts"
        raise UsageError(f"{rule}, got {'none' if name is None else repr(name)[:100]} in {by.path}.")
    root = name.partition(".")[0]
    trusted = name.startswith(OURS) or by.trusts(name) or is_remembered(root)
    found = _imported(name, by) if trusted else _already_there(name)
    if not (isinstance(found, (type, types.FunctionType)) and (by.trusts(found.__module__) or _is_part(found))):
        _refuse(name, by)
    return found


def _is_part(found: object) -> bool:
    """Whether this is a class that experiments are made of."""
    if not isinstance(found, type):
        return False
    home = f"{found.__module__}."
    if home.startswith("torch.") and not home.startswith(OURS):
        return False
    return issubclass(found, BASES) or (home.startswith("lit_dcem.") and dataclasses.is_dataclass(found))


def _already_there(name: str) -> object:
    """What a path leads to, if its module has been imported."""
    home, _, last = name.rpartition(".")
    outer, _, middle = home.rpartition(".")
    inner = vars(sys.modules[outer]).get(middle) if sys.modules.get(outer) else None  # a class within a class
    place = sys.modules.get(home) or (inner if isinstance(inner, type) else None)
    return vars(place).get(last) if place else None


def _imported(name: str, by: Reader) -> object:
    home, _, last = name.rpartition(".")
    outer, _, middle = home.rpartition(".")
    try:
        try:
            return getattr(importlib.import_module(home), last)
        except ModuleNotFoundError:
            return getattr(getattr(importlib.import_module(outer or home), middle or last), last)
    except (ImportError, AttributeError) as error:
        reason = str(error).rstrip(".")
        raise UsageError(f"A checkpoint must name classes that exist, got {name} in {by.path} ({reason}).") from error


def _refuse(name: str, by: Reader) -> NoReturn:
    root = name.partition(".")[0]
    rule = "A checkpoint may name modules, datamodules and optimizers of lit_dcem, torch, Lightning and what you trust"
    how = f": if you know its code, add --trust {root}, or trust=({root!r},) in Python"
    foreign = root not in (*sys.stdlib_module_names, "lit_dcem", "torch", "pytorch_lightning", "lightning")
    raise UsageError(f"{rule}, got {name} in {by.path}{how if foreign and not by.trusts(name) else ''}.")


def _check(value: object, by: Reader, depth: int, plain: bool = False) -> None:
    """Check a value of a config; the text of a ``plain`` one is never imported."""
    if depth > DEEPEST:
        raise UsageError(f"The config of a checkpoint must have at most {DEEPEST} levels, got more in {by.path}.")
    if isinstance(value, str):
        _check_environment(value, by)
        if not plain:
            _check_text(value, by, depth)
    elif isinstance(value, Mapping):
        _check_mapping(value, by, depth)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            _check(each, by, depth + 1, plain)


def _check_mapping(value: Mapping[Any, Any], by: Reader, depth: int) -> None:
    _check_names(value, by, allowed="class_path")
    rest = dict(value)
    if "class_path" in value:
        made = _find(rest.pop("class_path"), by)
        for name in ("init_args", "dict_kwargs"):
            if isinstance(rest.get(name), Mapping):
                _check_arguments(made, rest.pop(name), by, depth + 1)
    for key, each in rest.items():
        _check(key, by, depth + 1, plain=True)
        _check(each, by, depth + 1)


def _check_arguments(made: Callable[..., Any], arguments: Mapping[Any, Any], by: Reader, depth: int) -> None:
    _check_names(arguments, by)
    for name, value in arguments.items():
        plain = _annotation(made, name) if isinstance(made, type) else None
        if value is None and plain is not None and made.__module__.startswith("lit_dcem.") and not _may_be_none(plain):
            raise UsageError(f"{name} of {made.__name__} must have a value, got none in {by.path}.")
        _check(value, by, depth + 1, plain=plain is not None)


def _check_names(names: Mapping[Any, Any], by: Reader, allowed: str = "") -> None:
    """Refuse names that jsonargparse would take apart: ``solver.class_path``, ``class_path+``, ``__path__``."""
    for name in map(str, names):
        if name != allowed and ("class_path" in name or name.startswith("__")):
            raise UsageError(f"No option of a checkpoint may have such a name, got {name[:100]} in {by.path}.")


def _check_environment(text: str, by: Reader) -> None:
    """Gymnasium imports the module before the colon of an environment's id."""
    module, colon, _ = text.partition(":")
    root = module.partition(".")[0]
    foreign = colon and re.fullmatch(r"[^\W\d][\w.]*", module) and module not in sys.modules and can_import(root)
    if foreign and not by.trusts(module) and not is_remembered(root):
        _refuse(module, by)


def _check_text(text: str, by: Reader, depth: int) -> None:
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"A text in a checkpoint must be shorter than {LONGEST_TEXT}, got {len(text)} in {by.path}.")
    for name in PATH.findall(text):
        if can_import(name.partition(".")[0]) and not _is_tensor_function(name):
            _find(name, by)
    try:
        inside = yaml.load(text, Loader=YamlLoader)
    except (yaml.YAMLError, RecursionError):  # then jsonargparse cannot read it either
        return
    if not isinstance(inside, str):
        _check(inside, by, depth + 1)


def _is_tensor_function(name: str) -> bool:
    """A function of tensors, such as an activation, or a dtype."""
    home, _, last = name.rpartition(".")
    if home == "torch":
        return isinstance(vars(torch).get(last), torch.dtype) or (last in vars(torch) and hasattr(torch.Tensor, last))
    found = vars(nn.functional).get(last) if home == "torch.nn.functional" else None
    return isinstance(found, (types.FunctionType, types.BuiltinFunctionType))


def _annotation(cls: type, name: object) -> Any:
    """The type of an argument, if it allows only plain values such as text and numbers; otherwise None.

    Plain values are never imported, whatever the text says.
    """
    inits = [vars(base).get("__init__") for base in cls.__mro__]
    init = next((init for init in inits if inspect.isfunction(init) and name in init.__annotations__), None)
    try:
        hint = None if init is None else typing.get_type_hints(init)[cast("str", name)]
    except Exception:  # an annotation that only a type checker understands
        return None
    return hint if _has_plain_leaves(hint) else None


def _may_be_none(hint: Any) -> bool:
    return hint is types.NoneType or types.NoneType in typing.get_args(hint)


def _has_plain_leaves(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal or hint in (str, int, float, bool, types.NoneType):
        return True
    parts = [part for part in typing.get_args(hint) if part is not Ellipsis]
    kind = origin in (typing.Union, types.UnionType) or (
        isinstance(origin, type) and issubclass(origin, (list, tuple, dict))
    )
    return kind and bool(parts) and all(map(_has_plain_leaves, parts))
