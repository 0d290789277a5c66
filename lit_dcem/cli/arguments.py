"""What is typed on the command line, before a parser sees it: packages to trust, and names of shipped configs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lit_dcem.errors import UsageError
from lit_dcem.files.shipped import find_shipped

CONFIGS = ("-c", "--config", "--expert")
"""options that take a config"""


def find_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the names of shipped configs as their paths, as the parsers open these files themselves."""
    return list(_with_paths(arguments))


def _with_paths(arguments: Sequence[str]) -> Iterator[str]:
    is_config = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if equals and option in CONFIGS:
            argument = f"{option}={find_shipped(value, 'configs')}"
        elif is_config and not argument.startswith("-"):
            argument = find_shipped(argument, "configs")
        is_config = argument in CONFIGS
        yield argument


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
