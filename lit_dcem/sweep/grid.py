"""The file of a sweep, and the runs it stands for."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_dcem.checkpoint import read_checkpoint
from lit_dcem.errors import UsageError
from lit_dcem.files import open_replacing

FINISHED = ("done", "out of time")
ENDED = (*FINISHED, "failed", "cut off")
MAX_RUNS = 10_000
MAX_NAME = 255
"""bytes in the name of a folder"""


@dataclass(frozen=True)
class Run:
    """One point of the grid; ``settings`` are what must stay the same for it to go on."""

    folder: Path
    columns: dict[str, Any]
    settings: dict[str, Any]
    options: list[str]

    @property
    def last(self) -> Path:
        return self.folder / "version_0/checkpoints/last.ckpt"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def ending(self) -> Path:
        """What the training itself says of its end; none if it was cut off."""
        return self.folder / "ending.json"

    def recorded(self) -> dict[str, Any]:
        """What the sweep knows of it: at least its status."""
        return {"status": "new", **_read_json(self.folder / "result.json")}

    def record(self, status: str, **more: str) -> None:
        with open_replacing(self.folder / "result.json") as file:
            json.dump({**self.recorded(), **self.settings, "status": status, **more}, file, indent=1)

    def at_work(self) -> bool:
        """Whether a process trains it: it holds a lock on the log."""
        try:
            with self.log.open("r+b") as log:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # there is no log yet
            return False
        return False

    def own_end(self) -> str | None:
        """One of FINISHED, or None if it did not come to its own end."""
        status = _read_json(self.ending).get("status")
        return status if status in FINISHED else None

    def checkpoint(self) -> dict[str, Any]:
        """Its last one, empty if it cannot be read."""
        with contextlib.suppress(UsageError):
            return read_checkpoint(self.last)
        return {}


def read_sweep(file: Path) -> dict[str, Any]:
    """The content of a sweep file, checked, with the paths of its configs."""
    kinds = {"configs": list, "metric": str, "grid": dict, "arguments": dict}
    content = read_yaml(file)
    content = {"arguments": {}, **(content if isinstance(content, dict) else {})}
    if content.keys() != kinds.keys():
        wrong = ", ".join(map(str, content.keys() ^ kinds.keys()))
        raise UsageError(
            f"A sweep holds configs, metric, grid and arguments, got {wrong} missing or unknown in {file}."
        )
    for name, kind in kinds.items():
        if not isinstance(content[name], kind) or not (content[name] or name == "arguments"):
            raise UsageError(f"{name} must be a {kind.__name__} that is not empty, got {content[name]} in {file}.")
    for key, values in content["grid"].items():
        if not isinstance(values, list) or not values or key in content["arguments"]:
            raise UsageError(f"The grid maps options that are not among the arguments to lists, got {key}: {values}.")
    points = [(key, value) for key, values in content["grid"].items() for value in values]
    _check_options([*content["arguments"].items(), *points], file)
    count = math.prod(map(len, content["grid"].values()))
    if count > MAX_RUNS:
        raise UsageError(f"A sweep must have at most {MAX_RUNS:,} runs, got {count:,} in {file}.")
    return {**content, "configs": [file.parent / str(config) for config in content["configs"]]}


def _check_options(options: list[tuple[Any, Any]], file: Path) -> None:
    """See that a command line can hold them."""
    for key, value in options:
        if not isinstance(key, str):
            raise UsageError(f"Options of a sweep must be named by text, got {key} in {file}.")
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            if b"\0" not in os.fsencode("".join(as_options({key: value}))):
                continue
        raise UsageError(f"Options of a sweep must have plain values, got others for {key} in {file}.")


def plan(content: dict[str, Any], out: Path) -> list[Run]:
    """The runs of a sweep, in the order of its grid; each is unchanged since it began."""
    keys, arguments = [str(key) for key in content["grid"]], content["arguments"]
    short = [key.rpartition(".")[2] for key in keys]
    configs = {str(out / f"configs/{i}_{path.name}"): read_yaml(path) for i, path in enumerate(content["configs"])}
    runs: dict[str, Run] = {}
    for values in itertools.product(*content["grid"].values()):
        columns = dict(zip(short if len(set(short)) == len(short) else keys, values, strict=True))
        grid = dict(zip(keys, values, strict=True))
        name = re.sub(r"[^\w.,=+-]+", "-", ",".join(as_options(columns)))
        logger = {"trainer.logger.init_args.save_dir": str(out), "trainer.logger.init_args.name": name}
        options = as_options({"trainer.enable_progress_bar": False, **arguments, **grid, **logger}, "--")
        # As JSON has them, to compare with what was recorded.
        parts = {"grid": grid, "arguments": arguments, "configs": list(configs.values())}
        settings = json.loads(json.dumps(parts, default=str))
        if len(os.fsencode(name)) > MAX_NAME:
            raise UsageError(f"The names of a point of the grid must have at most {MAX_NAME} bytes, got {name}.")
        if name in runs:
            raise UsageError(f"Points of the grid must have different names, got {name} twice.")
        runs[name] = Run(out / name, columns, settings, [*(f"--config={path}" for path in configs), *options])
        _check_unchanged(runs[name])
        if runs[name].at_work():  # of another sweep, or one that outlived its sweep
            raise UsageError(
                f"No other process may work on the runs of a sweep, got one that trains {runs[name].folder}."
            )
    for path, config in configs.items():  # a copy: who edits a config does not change the runs still to come
        with open_replacing(path) as file:
            yaml.safe_dump(config, file, sort_keys=False)
    return list(runs.values())


def _check_unchanged(run: Run) -> None:
    recorded, out = run.recorded(), run.folder.parent
    changed = " and ".join(key for key, value in run.settings.items() if recorded.get(key) != value)
    if changed and (recorded["status"] in FINISHED or os.path.exists(run.last)):
        raise UsageError(
            f"{run.folder.name} must go on as it began, got other {changed}: use another --out than {out}."
        )


def as_options(options: dict[str, Any], prefix: str = "") -> list[str]:
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in options.items()}
    return [f"{prefix}{key}={text}" for key, text in texts.items()]


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        reason = "it is not text in UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
    raise UsageError(f"A sweep and its configs must be YAML files, got {path} ({reason}).")


def _read_json(path: Path) -> dict[str, Any]:
    """Empty if there is no such file, or it holds something else."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
