"""The exceptions of the command line."""

import re

WANTED = re.compile(r"tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", re.IGNORECASE)
"""in what torch says on a CPU and on a GPU"""


class UsageError(Exception):
    """Something the user typed cannot be done: one sentence, shown without a traceback, with exit code 2."""


class StoppedError(Exception):
    """A signal ended the command: one sentence, and 128 plus the signal's number as exit code.

    Args:
        code: exit code.
        message: what was done, and how to resume.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def memory_error(error: BaseException) -> UsageError | None:
    """The one sentence for an exception that says that memory ran out, on whatever device; None for any other."""
    told = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, of a device
    if told or "can't allocate memory" in str(error):
        rule = "The sizes of the model, its batches and its searches must fit into memory"
        return UsageError(f"{rule}, got {_wanted(str(error))}.")
    return None


def _wanted(message: str) -> str:
    found = WANTED.search(message)
    if found is None:
        return "some that do not"
    size, unit = found.groups()
    return f"a tensor of {f'{float(size) / 2**30:,.1f} GiB' if unit == 'bytes' else f'{size} {unit}'}"


def require(holds: bool, rule: str, got: object) -> None:
    """Raise a UsageError of the rule and the value that breaks it, unless the rule holds."""
    if not holds:
        raise UsageError(f"{rule}, got {got}.")
