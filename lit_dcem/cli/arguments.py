"""What is typed on the command line, before a parser sees it: whom to trust, and names of shipped files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import find_shipped

FOLDERS = {
    "-c": "configs",
    "--config": "configs",
    "--expert": "configs",
    "--checkpoint": "checkpoints",
    "--ckpt_path": "checkpoints",
    "--run": "checkpoints",
}
"""options that take files, and the folder of those that we ship"""
SEVERAL = "--run"
"""takes all arguments that follow"""


def find_files(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the names of shipped files as their paths."""
    return list(_with_files(arguments))


def _with_files(arguments: Sequence[str]) -> Iterator[str]:
    folder, several = None, False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("-"):
            folder, several = FOLDERS.get(argument), argument == SEVERAL
            known = equals and option in FOLDERS
            yield f"{option}={find_shipped(value, FOLDERS[option])}" if known else argument
        else:
            yield argument if folder is None else find_shipped(argument, folder)
            folder = folder if several else None


def take_trust(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages of ``--trust``, which may be repeated or hold several names with commas, and the other arguments.

    Raises:
        UsageError: no name after it.
    """
    packages: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        option, equals, value = argument.partition("=")
        if option != "--trust":
            rest.append(argument)
            continue
        value = value if equals else next(waiting, "")
        if not value or value.startswith("-"):
            raise UsageError(f"--trust must be followed by the name of a package, got {value or 'none'}.")
        packages += [name.strip() for name in value.split(",")]
    return packages, rest
