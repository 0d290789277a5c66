"""The file of a sweep, and the processes it stands for."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_dcem.cli.sweep.phases import SEED, Phase, check_options, paths_of, read_chains
from lit_dcem.cli.sweep.process import FINISHED, Process, as_options
from lit_dcem.cli.sweep.run import Evaluation, Run
from lit_dcem.errors import UsageError
from lit_dcem.files.replacing import open_replacing
from lit_dcem.planet.data.environment_data import EVALUATION_SEEDS

COLUMNS = (
    *("status", "best", "best_step", "last", "steps", "seconds", "checkpoint", "commit", "mean_return", "runs"),
    *("step", "train/loss", "simulator_steps", "metric", "value", "episode_seed", "return"),
)
"""of the tables, besides those of the grid and of measures, whose names begin with ``val/``"""
MAX_RUNS = 10_000
MAX_NAME = 255
"""bytes in the name of a folder"""
KINDS = {"metric": str, "grid": dict, "mode": str, "arguments": dict, "evaluation": dict}
"""what a sweep file holds besides its configs or chains"""
DEFAULTS: dict[str, Any] = {"mode": "min", "arguments": {}, "evaluation": {}}


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep file."""

    chains: list[list[Phase]]
    grid: dict[str, list[Any]]
    metric: str
    mode: str
    """of the metric: "min" or "max" is best"""
    episodes: int
    """of the evaluation of each run; 0 for none"""

    @property
    def has_chains(self) -> bool:
        """Whether its runs are phases of tasks."""
        return bool(self.chains[0][0].labels)

    def columns(self) -> dict[str, str]:
        """The columns that options of the grid have in tables: short names, unless two columns would have the same."""
        names = {SEED: "seed"} if self.has_chains else {}
        short = [names.get(key, key.rpartition(".")[2]) for key in self.grid]
        taken = [*short, *self.chains[0][0].labels, *COLUMNS]
        return dict(zip(self.grid, short if len(set(taken)) == len(taken) else self.grid, strict=True))


def read_sweep(file: Path) -> Sweep:
    """The content of a sweep file, checked."""
    content = read_yaml(file)
    content = {**DEFAULTS, **(content if isinstance(content, dict) else {})}
    own = "chains" if "chains" in content and "configs" not in content else "configs"
    kinds: dict[str, type] = {own: dict if own == "chains" else list, **KINDS}
    if content.keys() != kinds.keys():
        wrong = ", ".join(map(str, content.keys() ^ kinds.keys()))
        rule = "A sweep holds configs or chains, metric and grid, and may hold mode, arguments and evaluation"
        raise UsageError(f"{rule}, got {wrong} missing or unknown in {file}.")
    for name, kind in kinds.items():
        if not isinstance(content[name], kind) or not (content[name] or name in ("arguments", "evaluation")):
            raise UsageError(f"{name} must be a {kind.__name__} that is not empty, got {content[name]} in {file}.")
    _check_grid(content, file)
    _check_measures(content, file)
    one = [] if own == "chains" else [[Phase(paths_of(content["configs"], file), content["arguments"])]]
    chains = one or read_chains(content, file)
    _check_number(math.prod([sum(map(len, chains)), *map(len, content["grid"].values())]), file)
    episodes = content["evaluation"].get("episodes", 0)
    return Sweep(chains, content["grid"], content["metric"], content["mode"], episodes)


def _check_grid(content: dict[str, Any], file: Path) -> None:
    for key, values in content["grid"].items():
        if not isinstance(values, list) or not values or key in content["arguments"]:
            raise UsageError(f"The grid maps options that are not among the arguments to lists, got {key}: {values}.")
    points = [(key, value) for key, values in content["grid"].items() for value in values]
    check_options([*content["arguments"].items(), *points], file)


def _check_number(count: int, file: Path) -> None:
    if count > MAX_RUNS:
        raise UsageError(f"A sweep must have at most {MAX_RUNS:,} runs, got {count:,} in {file}.")


def _check_measures(content: dict[str, Any], file: Path) -> None:
    evaluation, mode, most = content["evaluation"], content["mode"], len(EVALUATION_SEEDS)
    if mode not in ("min", "max"):
        raise UsageError(f"mode must be min or max, got {mode} in {file}.")
    episodes = evaluation.get("episodes")
    if evaluation and (len(evaluation) > 1 or type(episodes) is not int or not 1 <= episodes <= most):
        raise UsageError(f"evaluation must have episodes, from 1 to {most:,}, alone, got {evaluation} in {file}.")


def plan(sweep: Sweep, out: Path) -> list[Process]:
    """The processes of a sweep, in the order of its chains and grid; each is unchanged since it began."""
    processes: list[Process] = []
    for phases in sweep.chains:
        configs = [_copies(phase, out) for phase in phases]
        for values in itertools.product(*sweep.grid.values()):
            point = dict(zip(sweep.grid, values, strict=True))
            processes += _chain(sweep, list(zip(phases, configs, strict=True)), point, out)
    _check(processes)
    return processes


def copy_configs(runs: list[Run]) -> None:
    """Write down the configs, so that who edits one does not change the runs still to come."""
    for path, config in {path: config for run in runs for path, config in run.configs.items()}.items():
        with open_replacing(path) as file:
            yaml.safe_dump(config, file, sort_keys=False)


def _copies(phase: Phase, out: Path) -> dict[str, Any]:
    """The content of a phase's configs, by the path of its copy."""
    labels = _as_name(",".join(as_options(phase.labels)))  # as in the names of runs, which are all different
    names = [",".join(filter(None, [labels, str(i), path.name])) for i, path in enumerate(phase.configs)]
    return {str(out / "configs" / name): read_yaml(path) for name, path in zip(names, phase.configs, strict=True)}


def _chain(sweep: Sweep, phases: list[tuple[Phase, dict[str, Any]]], point: dict[str, Any], out: Path) -> list[Process]:
    """The processes of one point of the grid."""
    chain: list[Process] = []
    before, names = None, sweep.columns()
    for phase, configs in phases:
        columns = {**phase.labels, **{names[key]: value for key, value in point.items()}}
        before = _run(phase, configs, point, columns, out, before)
        chain.append(before)
        if sweep.episodes:
            settings = {"evaluation": {"episodes": sweep.episodes}}
            chain.append(Evaluation(before.folder / "evaluation", before.chain, columns, settings, before))
    return chain


def _run(
    phase: Phase, configs: dict[str, Any], point: dict[str, Any], columns: dict[str, Any], out: Path, before: Run | None
) -> Run:
    name = _as_name(",".join(as_options(columns)))
    logger = {"trainer.logger.init_args.save_dir": str(out), "trainer.logger.init_args.name": name}
    options = as_options({"trainer.enable_progress_bar": False, **phase.arguments, **point, **logger}, "--")
    options = [*(f"--config={path}" for path in configs), *options]
    parts = {"grid": point, "arguments": phase.arguments, "configs": list(configs.values())}
    parts |= {"starts": phase.starts} if phase.starts else {}
    settings = json.loads(json.dumps(parts, default=str))  # to compare with what was recorded
    chain = before.chain if before else name
    return Run(out / name, chain, columns, settings, options, configs, before, phase.starts)


def _as_name(text: str) -> str:
    """Of a folder or file."""
    return re.sub(r"[^\w.,=+-]+", "-", text)


def _check(processes: list[Process]) -> None:
    names = set()
    for process in processes:
        if isinstance(process, Run):
            if len(os.fsencode(process.name)) > MAX_NAME:
                rule = f"The names of a point of the grid must have at most {MAX_NAME} bytes"
                raise UsageError(f"{rule}, got {process.name}.")
            if process.name in names:
                raise UsageError(f"Points of the grid must have different names, got {process.name} twice.")
            names.add(process.name)
            _check_unchanged(process)
        if process.at_work():  # of another sweep, or one that outlived its sweep
            raise UsageError(f"No other process may work on the runs of a sweep, got one that trains {process.folder}.")


def _check_unchanged(run: Run) -> None:
    changed = " and ".join(run.changed())
    if changed and (run.recorded()["status"] in FINISHED or os.path.exists(run.last)):
        out = run.folder.parent
        raise UsageError(
            f"{run.folder.name} must be resumed as it began, got other {changed}: use another --out than {out}."
        )


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        reason = "it is not text in UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
    raise UsageError(f"A sweep and its configs must be YAML files, got {path} ({reason}).")
