"""What ``lit-dcem evaluate`` needs to know of an experiment: what it measures, its options, and how to show numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import nn

from lit_dcem.training.checkpoint import Checkpoint
from lit_dcem.training.video import SUFFIXES, Film

Report = dict[str, Any]
"""the numbers of one planner or module, as they go into the JSON file"""
Reports = dict[str, Report]
"""by the name of what was measured"""
Measured = tuple[Reports, Film | None]
"""reports, and the film of an episode if one was asked for"""
Rows = Mapping[str, tuple[str, Callable[[Any], str]]]
"""entries of a report that the table shows: title and format; a mapping gets a row for each of its keys, which stand in
for {} in the title"""


def interval(digits: int) -> Callable[[tuple[float, float] | None], str]:
    """Show an interval with this many digits after the point, or a dash if there is none."""
    return lambda value: "-" if value is None else f"{value[0]:.{digits}f} .. {value[1]:.{digits}f}"


class Option(NamedTuple):
    """An option of an evaluation: ``--name``, and an argument of the same name of `Evaluator.measure`."""

    name: str
    type: Any
    help: str
    default: Any = None
    metavar: str | None = None
    holds: Callable[[Any], bool] = lambda value: True
    """whether a value can be used"""
    rule: str = ""
    """what a value that can be used must be, as in "must be at least 1" """
    needs: str | None = None
    """a flag without which this option means nothing"""
    excludes: str | None = None
    """a flag with which this option means nothing"""
    config: str | None = None
    """for an option that names a config with a planner: the shipped one that is taken by default"""


@dataclass(frozen=True)
class Own:
    """The planner that a checkpoint holds, of which an evaluation can change options."""

    kinds: tuple[type[nn.Module], ...]
    """base classes of it"""
    config: Callable[[Checkpoint], Mapping[str, Any]]
    """its ``class_path`` and ``init_args``, from a checkpoint whose config is trusted"""
    part: str
    """of the module, whose weights it has; "" for the module itself"""
    trained: tuple[str, ...]
    """options that stay as they are, since they were trained"""
    optional: tuple[str, ...] = ()
    """of these, what it can do without"""
    options: tuple[str, ...] = ()
    """that count in an evaluation, besides those that were trained; all if none are named"""


@dataclass(frozen=True)
class Evaluator:
    """How the modules of one experiment are measured."""

    title: str
    """of its options in the help"""
    subject: str
    """what is measured, as in "a checkpoint of PlaNet" """
    modules: tuple[type[pl.LightningModule], ...]
    """classes of the modules in checkpoints"""
    planners: tuple[type[nn.Module], ...]
    """base classes of what --planner may be; none if there is no such option"""
    examples: tuple[type[nn.Module], ...]
    """planners of ours, for the help and to be typed by their names alone"""
    options: tuple[Option, ...]
    rows: Rows
    measure: Callable[..., Measured]
    """takes ``checkpoint``, a `Checkpoint` or None, ``planner``, a module or None, and the options by name; of these,
    ``video`` is whether to film an episode, and one with a config is the planner in it"""
    own: Own | None = None
    """the planner of a checkpoint, if options of it can be changed"""


def at_least(least: int) -> dict[str, Any]:
    """The rule of an option that is a number."""
    return {"holds": lambda value: value >= least, "rule": f"must be at least {least}"}


def episodes(needs: str | None = None) -> Option:
    """How many episodes to run."""
    return Option("episodes", int, "number of episodes", 100, "N", **at_least(1), needs=needs)


def video(needs: str | None = None) -> Option:
    """Where to write a film of the first episode."""
    rule = f"must end in {' or '.join(SUFFIXES)}"
    return Option(
        "video", str | None, ".mp4 or .gif of the first episode", None, "FILE",
        lambda value: value is None or value.endswith(SUFFIXES), rule, needs=needs,
    )  # fmt: skip
