"""Train what figures are drawn from, and draw them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import yaml
from rich.console import Console

from lit_dcem.cli.figure import ALL, draw
from lit_dcem.cli.reproduction.document import shown
from lit_dcem.cli.reproduction.recipes import RECIPES, Content, Recipe, Study
from lit_dcem.cli.sweep import sweep
from lit_dcem.cli.sweep.grid import plan, read_sweep
from lit_dcem.cli.sweep.phases import SEED
from lit_dcem.cli.sweep.process import Process
from lit_dcem.cli.sweep.run import Evaluation, Run
from lit_dcem.errors import UsageError, require
from lit_dcem.files.replacing import open_replacing

QUICK_EPISODES = 2


def reproduce(number: str, out: str | None = None, quick: bool = False, jobs: int | None = None) -> None:
    """Say what is to be done, train it, and draw it. Runs that are done are left as they are, others are resumed.

    Args:
        number: of the figure, or "all".
        out: folder of figures and runs; ``runs/reproduce`` if none, ``runs/reproduce_quick`` if quick.
        quick: a run of seconds in place of each, with one seed: to see that everything works.
        jobs: runs at a time; one for each core if none.

    Raises:
        UsageError: no such figure, a folder that cannot be used, or runs that failed.
    """
    known = [*RECIPES, ALL]
    require(number in known, f"A figure to reproduce must be one of {', '.join(known)}", number)
    folder = Path(out or f"runs/reproduce{'_quick' if quick else ''}")
    require(not folder.is_file(), "--out must be a folder", f"the file {folder}")
    require(jobs is None or jobs >= 1, "--jobs must be at least 1", jobs)
    chosen = {number: RECIPES[number]} if number != ALL else dict(RECIPES)
    Console().print(shown(chosen, quick))
    for name, recipe in chosen.items():
        print(draw(name, _drawn(name, recipe, folder, quick, jobs), str(folder / f"figure{name}.png")))


def _drawn(number: str, recipe: Recipe, folder: Path, quick: bool, jobs: int | None) -> list[str]:
    """Train the studies of a figure; return what it is drawn from.

    Tables hold all runs of the last sweep of their folder. That is why a figure of some runs, if they are done, leaves
    them alone.
    """
    paths, whole = list(recipe.extra), recipe.draws == "table"
    for study in recipe.studies:
        out = (folder / study.folder).resolve()
        file = write_sweep(study, out, number, quick)
        processes = plan(read_sweep(file), out)
        if whole or not all(process.is_done() for process in processes):
            sweep(file, out, jobs=jobs)
        paths += [str(out)] if whole else _paths(recipe, processes)
    return paths


def write_sweep(study: Study, out: Path, number: str, quick: bool = False) -> Path:
    """Write the sweep file of a study, as this figure needs it, into its folder, and return its path."""
    content = _at_debug_size(study.content()) if quick else study.content()
    file = out / f"figure{number}.yaml"
    with open_replacing(file) as text:
        yaml.safe_dump(content, text, sort_keys=False)
    return file


def _at_debug_size(content: Content) -> Content:
    """The content with one seed, and few episodes if it evaluates."""
    content = copy.deepcopy(content)
    phases = [phase for chain in content.get("chains", {}).values() for phase in chain]
    for part in phases or [content]:
        part["configs"] = [*part["configs"], "debug.yaml"]
        part.pop("arguments", None)
    content["grid"] = {**content["grid"], SEED: content["grid"][SEED][:1]}
    if content.get("evaluation"):
        content["evaluation"] = {"episodes": QUICK_EPISODES}
    return content


def _paths(recipe: Recipe, processes: list[Process]) -> Iterator[str]:
    """What of its runs a figure is drawn from."""
    for process in processes:
        if recipe.phase not in (None, process.columns.get("phase")):
            continue
        if isinstance(process, Evaluation) and recipe.draws == "returns":
            yield str(process.report)
        elif isinstance(process, Run) and recipe.draws != "returns":
            found = {"last": process.last, "best": process.best, "logs": process.last.parents[1]}[recipe.draws]
            if not found.exists():
                raise UsageError(f"A figure needs finished runs, got none in {process.folder}.")
            yield str(found)
