"""The file of a sweep, and the runs it stands for."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from lit_dcem.checkpoint import read_checkpoint
from lit_dcem.errors import UsageError

FINISHED = ("done", "out of time")


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

    def recorded(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / "result.json").read_text())
        return {"status": "new"}

    def record(self, status: str, **more: str) -> None:
        with replacing(self.folder / "result.json") as file:
            json.dump({**self.recorded(), **self.settings, "status": status, **more}, file, indent=1)

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
    return {**content, "configs": [file.parent / str(config) for config in content["configs"]]}


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
        if name in runs:
            raise UsageError(f"Points of the grid must have different names, got {name} twice.")
        runs[name] = Run(out / name, columns, settings, [*(f"--config={path}" for path in configs), *options])
        _check_unchanged(runs[name])
    for path, config in configs.items():  # a copy: who edits a config does not change the runs still to come
        with replacing(Path(path)) as file:
            yaml.safe_dump(config, file, sort_keys=False)
    return list(runs.values())


def _check_unchanged(run: Run) -> None:
    recorded, out = run.recorded(), run.folder.parent
    changed = " and ".join(key for key, value in run.settings.items() if recorded.get(key) != value)
    if changed and (recorded["status"] in FINISHED or run.last.exists()):
        raise UsageError(
            f"{run.folder.name} must go on as it began, got other {changed}: use another --out than {out}."
        )


def as_options(options: dict[str, Any], prefix: str = "") -> list[str]:
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in options.items()}
    return [f"{prefix}{key}={text}" for key, text in texts.items()]


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"A sweep and its configs must be YAML files, got {path} ({reason}).") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of the old one when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="") as file:
        yield file
    part.replace(path)
