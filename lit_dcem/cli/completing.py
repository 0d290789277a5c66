"""What a config leaves open: the sizes of its environment, and what the run in ``start`` has that it does not state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_dcem.cli.configs import Tree, arguments_of, class_of, content_of, given_in, merged, options_of, plain
from lit_dcem.cli.resuming import named_runs
from lit_dcem.envs.make import make_simulation, usual_action_repeat
from lit_dcem.errors import UsageError
from lit_dcem.planet.data.environment_data import same_task
from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.run_folder import newest_run
from lit_dcem.training.start import nearest_class

TASK = ("env", "env_options", "action_repeat", "time_limit")
"""options of the data that a later phase shares with the one before"""
SIZES = {
    ("world_model",): ("observation_dim", "action_dim"),
    ("planner", "decoder"): ("action_dim",),
    ("policy_gradient",): ("action_dim",),
}
"""parts of a model, and their options that are the environment's"""
VALUES = (("planner", "value"), ("policy_gradient", "value"))
BELIEF = ("deter_dim", "stoch_dim")
"""parts of a model that see the belief, and their options that are the world model's"""


def missing(arguments: list[str], before: Checkpoint | None = None) -> Tree:
    """What configs and options leave open, as a config.

    The action repeat is the usual one of the environment. A module with ``start`` gets the parts that its ``inherits``
    names from the config of that checkpoint, and the task from the checkpoint's data. World model, decoder and policy
    gradient get the sizes of the environment, and value networks those of the belief.

    Args:
        arguments: of the command line.
        before: in place of the checkpoint in ``start``, where that is not written yet.

    Raises:
        UsageError: no such checkpoint or environment, or a task that is not that of the checkpoint in ``start``.
    """
    given = given_in(arguments)
    cls = class_of(given["model"])
    if cls is None:
        return {}
    found = _from_start(cls, given, arguments, before)
    known = merged(plain(found), given)
    for more in (_from_environment(cls, known), _of_beliefs(known["model"]), _usual(known["data"])):
        found = merged(found, more)
    return {part: {"class_path": given[part].get("class_path"), **found[part]} for part in found}


def in_front(found: Tree, arguments: list[str]) -> list[str]:
    """The arguments with a config in front of the others; what is written or typed overrides it."""
    return [arguments[0], f"--config={json.dumps(found)}", *arguments[1:]] if found else arguments


def _from_start(cls: type, given: Tree, arguments: list[str], before: Checkpoint | None) -> Tree:
    """Parts of the model and the task, as the checkpoint has them."""
    start, inherits = given["model"].get("start"), getattr(cls, "inherits", {})
    if not isinstance(start, str) or not inherits:
        return {}
    resumed = _resumed(given, arguments)
    checkpoint = resumed or before or Checkpoint.read(start)
    parts: Mapping[str, str] = inherits[nearest_class(checkpoint, cls, inherits)]
    model, data = checkpoint.trusted_config
    takes, task = options_of(cls), options_of(class_of(given["data"]) or object)
    if resumed is None and arguments[0] == "fit" and "env" in data:
        same_task({**data, **plain(given["data"])}, data, str(checkpoint.path))  # before any size is at odds
    found: Tree = {
        "model": {"init_args": _there({ours: model.get(theirs) for ours, theirs in parts.items() if ours in takes})},
        "data": {"init_args": _there({name: data.get(name) for name in TASK if name in task})},
    }
    try:
        json.dumps(found)
    except TypeError as error:
        raise UsageError(f"The config in {checkpoint.path} must be plain data, got others ({error}).") from error
    return {part: options for part, options in found.items() if options["init_args"]}


def _there(options: Mapping[str, Any]) -> Tree:
    return {name: value for name, value in options.items() if value is not None}


def _resumed(given: Tree, arguments: list[str]) -> Checkpoint | None:
    """The checkpoint that a run is resumed from: what it started from may be gone by now."""
    configs = [path for _, path in arguments_of(arguments) if path]
    path = next((each["ckpt_path"] for each in map(content_of, reversed(configs)) if each.get("ckpt_path")), None)
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        path = (value if equals else following) if name == "--ckpt_path" else path
    if path == "last":
        path = newest_run(_runs(given["trainer"], configs[0])) if configs else None
    return Checkpoint.read(path) if path and path != "null" else None


def _runs(trainer: Tree, config: str) -> Path:
    """The folder of the runs that the first config names."""
    given = trainer.get("logger")
    first = given[0] if isinstance(given, list) and given else given
    return named_runs(first if isinstance(first, dict) else {}, trainer.get("default_root_dir"), Path(config).stem)


def _from_environment(cls: type, given: Tree) -> Tree:
    """The sizes that the config does not state."""
    env, takes = given["data"].get("env"), options_of(cls)
    wanted = {path: _open(given["model"], takes, path, names) for path, names in SIZES.items()}
    options = given["data"].get("env_options")
    can_tell = isinstance(env, str) and isinstance(options, dict | None)
    if not can_tell or "world_model" not in takes or not any(wanted.values()):
        return {}
    simulation = make_simulation(env, options)
    sizes = {"observation_dim": simulation.observation_dim, "action_dim": len(simulation.lower)}
    found: Tree = {}
    for path, names in wanted.items():
        if names:
            found = merged(found, _nested(given["model"], path, {name: sizes[name] for name in names}))
    return {"model": found}


def _of_beliefs(model: Tree) -> Tree:
    """The sizes of the belief that the config states for the world model alone."""
    world = model.get("world_model")
    rssm = world.get("rssm") if isinstance(world, dict) else None
    sizes = {name: rssm[name] for name in BELIEF if name in rssm} if isinstance(rssm, dict) else {}
    found: Tree = {}
    for path in VALUES:
        names = _open(model, set(), path, tuple(sizes))
        found = merged(found, _nested(model, path, {name: sizes[name] for name in names}) if names else {})
    return {"model": found} if found else {}


def _usual(data: Tree) -> Tree:
    """The action repeat of the environment, to be in the config of a run and in its checkpoints."""
    takes = options_of(class_of(data) or object)
    if "action_repeat" not in takes or not isinstance(data.get("env"), str) or data.get("action_repeat") is not None:
        return {}
    return {"data": {"init_args": {"action_repeat": usual_action_repeat(data["env"])}}}


def _open(model: Tree, takes: set[str], path: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """The sizes that a part lacks, if it is there or made by default."""
    part: Any = model
    for name in path:
        part = part.get(name) if isinstance(part, dict) else None
    part = {"class_path": part} if isinstance(part, str) else part
    if part is None and len(path) == 1 and path[0] in takes:
        return list(names)
    cls = class_of(part) if isinstance(part, dict) else None
    known = names if cls is None else [name for name in names if name in options_of(cls)]
    return [name for name in known if name not in part] if isinstance(part, dict) else []


def _nested(part: Tree, path: tuple[str, ...], sizes: Tree) -> Tree:
    """The sizes at their place in a config, below the classes that it names."""
    name, *rest = path
    inner = part.get(name) or {}
    inner = {"class_path": inner} if isinstance(inner, str) else inner
    below = _nested(inner, tuple(rest), sizes) if rest else {"init_args": sizes}
    kind = {"class_path": inner["class_path"]} if "class_path" in inner else {}
    return {"init_args": {name: {**kind, **below}}}
