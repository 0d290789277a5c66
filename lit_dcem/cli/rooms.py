"""What the command line finds in the rooms of the experiments, so that a new one need not be listed anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from lit_dcem.files.shipped import PACKAGE


def modules_at(*places: str) -> Iterator[ModuleType]:
    """The modules at places in the package, such as ``*/evaluate.py``, in order; those of the command line excepted."""
    for path in sorted(path for place in places for path in PACKAGE.glob(place)):
        names = path.relative_to(PACKAGE).with_suffix("").parts
        if names[0] != "cli":
            yield import_module(".".join((PACKAGE.name, *names)))
