"""Files that survive: written next to their target, flushed to the disk, and then swapped for it in one step.

Whenever the process is killed or the disk fills up, the target holds either what it held before, or all of what is new.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lit_dcem.errors import UsageError

PAGE = 4096
"""bytes that a trial writes: a full file system still makes empty files"""
DISK = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG", "ENOTDIR", "EISDIR")
    if hasattr(errno, name)
}
"""kinds of OSError that tell of a disk, and not of a mistake in the code"""


class WriteError(UsageError, OSError):
    """A file cannot be written: one sentence for the user, and an OSError for who calls a function."""


@contextlib.contextmanager
def replacing(path: str | Path, suffix: str = "", follow_links: bool = True) -> Iterator[Path]:
    """Yield a hidden path in the folder of a file, to be written; it takes the file's place when the block ends well.

    The folder is made if there is none. If the block raises, what it wrote is removed. Parts that killed processes left
    behind are removed with the next write of the same file. Devices and pipes are written as they are.

    Args:
        path: the file; what it holds stays until the new content is on the disk.
        suffix: of the hidden path, for writers that go by it.
        follow_links: write the file behind a symbolic link; if false, replace the link itself.

    Raises:
        WriteError: the file cannot be written: no space left, a folder, not allowed.
    """
    with writing(path):
        target = Path(os.path.realpath(path)) if follow_links else Path(os.path.abspath(path))
        if target.exists() and not target.is_file():
            yield target
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_allowed(target)
        _remove_leftovers(target)
        part = _part(target, suffix)
        try:
            yield part
            _swap(part, target)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def open_replacing(path: str | Path, mode: str = "w", follow_links: bool = True) -> Iterator[IO[Any]]:
    """`replacing`, as an open file: text in UTF-8 with the line ends that are written, or bytes (``wb``)."""
    text: dict[str, Any] = {} if "b" in mode else {"newline": "", "encoding": "utf-8"}
    with replacing(path, follow_links=follow_links) as part, part.open(mode, **text) as file:
        yield file


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an OSError in the block into a `WriteError` that names the file. The block leaves the file as it was."""
    try:
        yield
    except WriteError:
        raise
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise _write_error(f"{path} must be writable, got {_reason(cause)}; it is as it was.", cause) from error


def disk_error(error: BaseException) -> WriteError | None:
    """The disk error behind an exception from other people's code, as one sentence; None if there is none."""
    if isinstance(error, WriteError):
        return error
    cause = _os_error(error)
    if cause is None or cause.errno not in DISK:
        return None
    return _write_error(f"{cause.filename or 'Every file'} must be writable, got {_reason(cause)}.", cause)


def check_writable(path: str | Path, name: str) -> None:
    """See, before long work, that a file can be written in the end. Leaves nothing behind.

    Args:
        path: the file; neither it nor its folder need be there.
        name: what the user calls it, as ``--out``.

    Raises:
        WriteError: it cannot.
    """
    try:
        _try_out(Path(os.path.realpath(path)))
    except IsADirectoryError:
        raise WriteError(f"{name} must be a file, got the folder {path}.") from None
    except (OSError, ValueError) as error:  # a ValueError: a path with a null byte
        raise WriteError(f"{name} must be writable, got {path} ({_reason(error)}).") from error


def _try_out(target: Path) -> None:
    """Raise the OSError that writing the file would raise."""
    if target.is_dir():
        raise IsADirectoryError
    if target.exists() and not target.is_file():
        return
    _check_allowed(target)
    trial = _part(next(each for each in target.parents if each.exists()) / target.name, "")
    try:
        trial.write_bytes(bytes(PAGE))
        _to_disk(trial)
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)


def _swap(part: Path, target: Path) -> None:
    """Put the part on the disk, in place of the target, whose permissions it takes."""
    if target.exists():
        with contextlib.suppress(OSError):  # somebody else's file, or a file system without permissions
            part.chmod(stat.S_IMODE(target.stat().st_mode))
    _to_disk(part)
    os.replace(part, target)
    with contextlib.suppress(OSError):  # some systems have no such thing for folders; the file is whole in any case
        _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_allowed(target: Path) -> None:
    """A file that its owner wrote-protected is not replaced, though its folder would allow it."""
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))


def _part(target: Path, suffix: str) -> Path:
    """A hidden name next to a file, unique to this machine, process and thread."""
    return target.with_name(f"{_beginning(target)}{os.getpid()}-{threading.get_ident()}.part{suffix}")


def _beginning(target: Path) -> str:
    """Of the names of its parts on this machine; short, as a name has at most 255 bytes."""
    return f".{target.name[:40]}.{socket.gethostname()[:32]}-"


def _remove_leftovers(target: Path) -> None:
    """Remove the parts of this file that killed processes of this machine have left."""
    if os.name != "posix":
        return
    beginning = _beginning(target)
    for part in target.parent.glob(f"{glob.escape(beginning)}*.part*"):
        owner = re.match(r"(\d+)-", part.name[len(beginning) :])
        if owner and not _alive(int(owner[1])):
            part.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _os_error(error: BaseException | None) -> OSError | None:
    """The exception itself, or what torch's RuntimeError hides when its stream fails."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _write_error(sentence: str, cause: OSError) -> WriteError:
    error = WriteError(sentence)
    error.errno = cause.errno
    return error
