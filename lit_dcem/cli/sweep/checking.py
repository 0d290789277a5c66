"""See that the runs of a sweep can begin, before any of them does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from lit_dcem.cli.sweep.phases import SEED
from lit_dcem.cli.sweep.process import as_options
from lit_dcem.cli.sweep.run import Run
from lit_dcem.errors import UsageError
from lit_dcem.training.checkpoint import Checkpoint


def check_runs(runs: Iterable[Run], metric: str) -> None:
    """Build the model and data of each phase, at every value of every option of the grid.

    It does so at the first values of all options, and at each other value of one of them, but for seeds. Values that
    do not go together elsewhere are found when such a run begins. A phase that starts from the one before is told what
    the checkpoint of that one will say.

    Raises:
        UsageError: options that are not known, values of which nothing can be built, or a metric that is not logged.
    """
    from lit_dcem.cli.rehearsal import Rehearsal  # torch and Lightning take seconds

    first: dict[str, Any] = {}
    left: dict[str, Checkpoint] = {}
    for run in runs:
        point = run.settings["grid"]
        first = first or point
        others = {option: value for option, value in point.items() if value != first[option]}
        if len(others) > 1 or isinstance(others.get(SEED), int):  # which every run takes
            continue
        try:
            built = Rehearsal(_arguments(run), left[run.before.name] if run.before else None)
            _check_metric(metric, getattr(built.model, "metrics", ()))
        except UsageError as error:
            raise UsageError(
                f"Every run of a sweep must be able to begin, got a mistake in {run.name}: {error}"
            ) from error
        left[run.name] = built.checkpoint_at(run.best)


def _arguments(run: Run) -> list[str]:
    """With the configs themselves in place of their copies, which are not written yet."""
    configs = [f"--config={json.dumps(config or {})}" for config in run.settings["configs"]]
    return [*configs, *run.options[len(configs) :], *as_options(run.starts_now(), "--")]


def _check_metric(metric: str, logged: Sequence[str]) -> None:
    """A module of ours says what it logs; a sweep sees what is logged at validations."""
    measured = [name for name in logged if name.startswith("val/")]
    if measured and metric not in measured:
        raise UsageError(f"The metric must be one of {', '.join(measured)}, got {metric}.")
