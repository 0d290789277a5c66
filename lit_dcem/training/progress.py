"""Bars in the terminal that say how much is left, in steps and in time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

Item = TypeVar("Item", covariant=True)
Result = TypeVar("Result")


class Listed(Sized, Iterable[Item], Protocol[Item]):
    """Items whose number is known."""


class TimeLeft(ProgressColumn):
    """Estimates the time left by the mean time of a step so far: steps of minutes leave no other sample."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        seconds = seconds_left(task)
        return Text("" if seconds is None else f"{as_clock(seconds)} left", style="progress.remaining")


def seconds_left(task: Task) -> float | None:
    """Estimate for a task; None while nothing is known.

    Its field ``begun``, if it has one, is the number of steps that were done before it was shown.
    """
    done = task.completed - task.fields.get("begun", 0)
    if task.total is None or task.elapsed is None or done <= 0:
        return None
    return task.elapsed / done * max(0.0, task.total - task.completed)


def as_clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def bars(console: Console) -> Progress:
    """Bars for the tasks of a command, with the time left; none if the console is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


_shown: list[Progress] = []
"""the bars on the screen, to which those of inner loops are added"""


@contextlib.contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar while the block runs; yield a function that advances it by one step.

    Nothing is shown if stderr is no terminal.

    Args:
        description: what is done.
        total: number of steps; None if it is not known.
    """
    with contextlib.ExitStack() as stack:
        if not _shown:
            _shown.append(stack.enter_context(bars(Console(stderr=True))))
            stack.callback(_shown.clear)
        shown = _shown[0]
        task = shown.add_task(description, total=total)
        stack.callback(shown.remove_task, task)
        yield functools.partial(shown.advance, task)


def track(items: Listed[Item], description: str) -> Iterator[Item]:
    """Yield the items under a bar that counts them."""
    with progress(description, len(items)) as tick:
        for item in items:
            yield item
            tick()


def ticking(function: Callable[..., Result], tick: Callable[[], None]) -> Callable[..., Result]:
    """The function, with a tick after each call."""

    @functools.wraps(function, updated=())
    def counted(*args: Any, **kwargs: Any) -> Result:
        result = function(*args, **kwargs)
        tick()
        return result

    return counted
