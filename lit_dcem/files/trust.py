"""Which code a checkpoint may have imported: packages that the user trusts, or has named in a config before."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lit_dcem.errors import UsageError

VARIABLE = "LIT_DCEM_TRUST"
"""of the environment, so that the processes that a command starts trust what it does"""


class Reader(NamedTuple):
    """Which checkpoint is read, and the packages that its reader trusts."""

    path: str | Path
    packages: tuple[str, ...] = ()

    def trusts(self, name: str) -> bool:
        """Whether a module or class is in one of the packages."""
        return any(f"{name}.".startswith(f"{package}.") for package in self.packages)


def reader(path: str | Path, trust: Iterable[str] = ()) -> Reader:
    """The reader of a checkpoint, who trusts some packages and those of the command line.

    Raises:
        UsageError: a name that is not of a package of one's own.
    """
    return Reader(path, (*checked(trust), *os.environ.get(VARIABLE, "").split()))


def checked(packages: Iterable[str]) -> tuple[str, ...]:
    """The names of packages.

    Raises:
        UsageError: one of the standard library, or no name at all.
    """
    names = tuple([packages] if isinstance(packages, str) else packages)
    for name in names:
        own = all(part.isidentifier() for part in name.split("."))
        if not own or name.partition(".")[0] in sys.stdlib_module_names:
            raise UsageError(f"--trust must name a package of your own, got {name or 'none'}.")
    return names


@contextlib.contextmanager
def trusting(packages: Iterable[str]) -> Iterator[None]:
    """Trust packages in this process, and in those that it starts."""
    before = os.environ.get(VARIABLE, "")
    os.environ[VARIABLE] = " ".join((*checked(packages), *before.split()))
    try:
        yield
    finally:
        os.environ[VARIABLE] = before


def remember(*configs: Mapping[str, Any], inherited: Mapping[str, Any] | None = None) -> None:
    """Note the packages that the user's configs name, so that checkpoints may name them from now on.

    What is noted is the file of a package. Another package of the same name is not trusted.

    Args:
        configs: whole ones.
        inherited: the part of them that is from a checkpoint, which does not count.
    """
    theirs = set(_named(inherited or {}))
    names = {name.partition(".")[0] for config in configs for name in _named(config) if name not in theirs}
    files = {_file_of(name) for name in names - {"lit_dcem", "torch", "pytorch_lightning"}}
    new = sorted(file for file in files if file is not None and file not in _remembered())
    if new:
        with contextlib.suppress(OSError):  # a home that cannot be written: --trust remains
            _store().parent.mkdir(parents=True, exist_ok=True)
            with _store().open("a") as store:
                store.write("".join(f"{file}\n" for file in new))


def is_remembered(package: str) -> bool:
    """Whether a top-level package is one that a config of the user has named before."""
    file = _file_of(package)
    return file is not None and file in _remembered()


def can_import(package: str) -> bool:
    """Whether there is a top-level package of this name; it is not imported."""
    if package in sys.modules:
        return True
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        return importlib.util.find_spec(package) is not None
    return False


def _named(value: object) -> Iterator[str]:
    """Paths of classes, and modules of environments, in a config."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key in ("class_path", "_class_path") and isinstance(each, str):
                yield each
            elif key == "env" and isinstance(each, str) and ":" in each:
                yield each.partition(":")[0]
            else:
                yield from _named(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _named(each)


def _file_of(package: str) -> str | None:
    """The file of a top-level package, or its folder if it has none; it is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return None
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return next((str(Path(place).resolve()) for place in places if place and Path(place).exists()), None)


def _remembered() -> set[str]:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return set(_store().read_text().splitlines())
    return set()


def _store() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lit-dcem" / "trusted"
