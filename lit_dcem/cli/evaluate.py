"""``lit-dcem evaluate``: measure what an experiment has learned, or a planner."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os.path import samefile
from pathlib import Path
from pydoc import locate
from typing import Any

from jsonargparse import ActionConfigFile, Namespace
from rich.console import Console
from torch import nn

from lit_dcem.cli.configs import check_configs, named
from lit_dcem.cli.own_planner import ChangedPlanner, changed_planner, in_words
from lit_dcem.cli.parser import Parser
from lit_dcem.cli.rooms import modules_at
from lit_dcem.cli.table import table_of
from lit_dcem.errors import UsageError, memory_error, require
from lit_dcem.files.replacing import check_writable, open_replacing
from lit_dcem.files.shipped import shipped
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.evaluating import Evaluator, Option, Reports
from lit_dcem.training.messages import one_sentence
from lit_dcem.training.video import write_video

EVALUATORS: tuple[Evaluator, ...] = tuple(module.EVALUATOR for module in modules_at("*/evaluate.py"))
"""one in the room of each experiment"""
OWN = "options without a class, as --planner.solver.temperature=0, are laid over the planner of the checkpoint"
DESCRIPTION = "Measure what a checkpoint has learned, or the planner of a config."


def run(arguments: list[str]) -> None:
    """Parse the arguments (``["--config", FILE, ...]``), measure, print a table, and write what was asked for.

    Raises:
        UsageError: what was typed cannot be done.
    """
    check_configs(arguments)
    changed = changed_planner(arguments, EVALUATORS)
    parser = _parser(changed.own.kinds if changed else ())
    options, typed = _parsed(parser, changed.in_front(arguments) if changed else arguments)
    differences = changed.differences(parser, options.planner) if changed else None
    _check(options)
    checkpoint = changed.checkpoint if changed else Checkpoint.read(options.checkpoint) if options.checkpoint else None
    evaluator = _evaluator(checkpoint, options)
    _check_typed(evaluator, checkpoint, options, typed)
    planner = _planner(parser, options, changed)
    given = {option.name: _value(option, parser, options) for option in evaluator.options}
    with _in_memory():
        reports, film = evaluator.measure(checkpoint, planner, **given)
    Console().print(table_of(reports, evaluator.rows))
    if differences is not None:
        Console().print(in_words(differences), markup=False, highlight=False)
    if options.out is not None:
        read = {} if checkpoint is None else {"checkpoint_file": str(checkpoint.path)}
        _write(options, evaluator, {**read, **({} if differences is None else {"changed": differences})}, reports)
    if film is not None:  # the last, as it needs the most room
        write_video(Path(options.video), *film)


@contextmanager
def _in_memory() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (large := memory_error(error)) is not None:
            raise large from error
        raise


def _parsed(parser: Parser, arguments: list[str]) -> tuple[Namespace, Namespace]:
    """All options, and those that were typed."""
    try:
        return parser.parse_args(arguments), parser.parse_args(arguments, defaults=False)
    except ValueError as error:  # of a path that cannot be one
        raise UsageError(one_sentence(str(error))) from error


def _parser(kinds: tuple[type[nn.Module], ...]) -> Parser:
    """The options of all experiments, in a group for each set of experiments that takes them.

    Args:
        kinds: what --planner may be besides a planner of an evaluator.
    """
    parser = Parser(prog="lit-dcem evaluate", description=DESCRIPTION)
    add = parser.add_argument
    add("--config", action=ActionConfigFile, help="YAML file with a planner, and any of these options")
    add("--checkpoint", type=str | None, metavar="FILE", help="a file, a run folder (its last.ckpt), or a shipped name")
    bases = tuple(base for each in EVALUATORS for base in each.planners) + kinds
    known = [f"{each.title}: {', '.join(kind.__name__ for kind in each.examples)}" for each in _takers("planner")]
    parser.add_subclass_arguments(bases, "planner", required=False, help=f"{'; '.join(known)}; or your own; {OWN}")
    assert parser.groups is not None
    parser.groups["planner"].title = "planner"  # in place of the classes as Python shows them
    add("--out", type=str | None, metavar="FILE", help="all numbers, as JSON")
    groups: dict[str, list[Option]] = {}
    for name, option in _options().items():
        groups.setdefault(" and ".join(each.title for each in _takers(name)), []).append(option)
    for title, options in groups.items():
        group = parser.add_argument_group(title)
        for option in options:
            flag = option.type is bool and option.default is False
            how: dict[str, Any] = {"type": option.type, "default": option.default}
            named = {} if option.metavar is None else {"metavar": option.metavar}
            how = {"action": "store_true"} if flag else {**how, **named}
            group.add_argument(f"--{option.name}", help=option.help, **how)
    return parser


def _options() -> dict[str, Option]:
    """The options of all experiments by name."""
    return {option.name: option for evaluator in EVALUATORS for option in evaluator.options}


def _takers(name: str) -> list[Evaluator]:
    """The experiments that take an option."""
    return [each for each in EVALUATORS if name in _names(each)]


def _names(evaluator: Evaluator) -> set[str]:
    return {option.name for option in evaluator.options} | ({"planner"} if evaluator.planners else set())


def _check(options: Namespace) -> None:
    """Check every value, and that what is to be written can be."""
    for name, option in _options().items():
        require(option.holds(options[name]), f"--{name} {option.rule}", options[name])
    given = {f"--{name}": options[name] for name in ("out", "video") if options[name] is not None}
    for name, path in given.items():
        require(not os.path.isdir(path), "--out and --video must be files", f"the folder {path}")
        replaces = Path(path).suffix == ".ckpt" or _are_same(path, options.checkpoint)
        require(not replaces, "--out and --video must not replace a checkpoint", path)
        check_writable(path, name)
    require(len(set(given.values())) == len(given), "--out and --video must be different files", options.out)


def _are_same(path: str, checkpoint: str | None) -> bool:
    """Whether both name one file."""
    return checkpoint is not None and os.path.isfile(path) and os.path.isfile(checkpoint) and samefile(path, checkpoint)


def _evaluator(checkpoint: Checkpoint | None, options: Namespace) -> Evaluator:
    """What measures the module of the checkpoint; without one, the planner."""
    if checkpoint is not None:
        kind, got = checkpoint.module_class, f"{checkpoint.module_class.__name__} in {checkpoint.path}"
        found = [each for each in EVALUATORS if issubclass(kind, each.modules)]
    else:
        require(bool(options.get("planner")), "Give either --config with a planner or --checkpoint", "neither")
        kind = got = locate(options.planner.class_path)
        found = [each for each in EVALUATORS if isinstance(kind, type) and issubclass(kind, each.planners)]
    require(bool(found), f"evaluate needs {_listed(each.subject for each in EVALUATORS)}", got)
    return found[0]


def _check_typed(evaluator: Evaluator, checkpoint: Checkpoint | None, options: Namespace, typed: Namespace) -> None:
    """Refuse what was typed and would be ignored: options of other experiments, and those that another one excludes."""
    subject = options.planner.class_path.rpartition(".")[2] if checkpoint is None else checkpoint.module_class.__name__
    for name in (name for name in (*_options(), "planner") if typed.get(name) is not None):
        fits = name in _names(evaluator)
        require(fits, f"--{name} needs {_listed(each.subject for each in _takers(name))}", subject)
    for option in evaluator.options:
        if typed.get(option.name) is not None:
            got = f"--{option.name} {options[option.name]}"
            needs, excludes = option.needs, option.excludes
            require(needs is None or options[needs], f"--{option.name} needs --{needs}", f"{got} alone")
            require(excludes is None or not options[excludes], f"--{option.name} has no meaning with --{excludes}", got)


def _value(option: Option, parser: Parser, options: Namespace) -> Any:
    """What an option means to an evaluator."""
    value = options[option.name]
    if option.name == "video":
        return value is not None
    return value if option.config is None else _planner_of(option, parser, options)


def _planner_of(option: Option, parser: Parser, options: Namespace) -> nn.Module | None:
    """The planner of a config that an option names; by default of a shipped one, unless that is what is measured."""
    if option.needs and not options[option.needs]:
        return None
    path = options[option.name]
    check_configs(["--config", path or ""])
    config = parser.parse_args(["--config", path or str(shipped("configs") / f"{option.config}.yaml")])
    require(bool(config.get("planner")), f"--{option.name} must be a config with a planner", path)
    if path is None and options.get("planner") == config.planner:
        return None
    return _built(parser, config)


def _planner(parser: Parser, options: Namespace, changed: ChangedPlanner | None) -> nn.Module | None:
    """The planner that was asked for; None for that of the checkpoint."""
    if not options.get("planner"):
        return None
    return changed.built(lambda: _built(parser, options)) if changed else _built(parser, options)


def _built(parser: Parser, options: Namespace) -> nn.Module:
    """The planner of a config."""
    try:
        return parser.instantiate_classes(options)["planner"]
    except (TypeError, ValueError) as error:
        raise UsageError(one_sentence(str(error))) from error


def _listed(names: Iterable[str]) -> str:
    return " or ".join(names)


def _write(options: Namespace, evaluator: Evaluator, more: Mapping[str, Any], reports: Reports) -> None:
    """The options that count here, what more there is to say of them, and the reports, as JSON."""
    known = {"checkpoint", "planner", "out", *_names(evaluator)}
    asked = {key: value for key, value in options.as_dict().items() if key in known and value is not None}
    with open_replacing(options.out) as file:
        file.write(json.dumps({"options": asked, **more, "results": reports}, indent=2, default=named) + "\n")
    print(Path(options.out))
