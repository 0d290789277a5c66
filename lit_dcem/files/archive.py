"""The zip archive that ``torch.save`` writes: torch compares no checksum when it reads one, so we do."""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

from lit_dcem.errors import UsageError

HEADER = struct.pack("<4s5H3L", b"PK\x03\x04", 0, 0x808, 0, 0, 0, 0, 0, 0)
"""of an entry that torch writes: its checksum and size follow the data"""
EMPTY = struct.pack("<4s5H3L", b"PK\x03\x04", 0, 0x800, 0, 0, 0, 0, 0, 0)
"""of an entry without data, which nothing follows"""
LARGEST = 2**32 - 1
"""bytes; beyond, the headers have another form"""


def check_archive(path: Path) -> None:
    """See that an archive is just as torch wrote it.

    Raises:
        UsageError: a byte that has changed, a part that is missing, or an archive of something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            damaged = None if packed else archive.testzip()
            whole = damaged is None and _is_whole(path, entries, archive.start_dir)
    except Exception as error:  # truncated and foreign files raise half a dozen types
        reason = str(error).rstrip(".") or type(error).__name__
        raise UsageError(f"{path} is not a whole checkpoint ({reason}): use another one.") from error
    if packed:
        raise UsageError(f"A checkpoint must hold its tensors as they are, got {packed[0]} compressed in {path}.")
    if not whole:
        raise UsageError(f"{path} is damaged (in {damaged or 'its headers'}): use another one.")


def _is_whole(path: Path, entries: Sequence[zipfile.ZipInfo], directory: int) -> bool:
    """Whether headers and padding, which have no checksum, are as torch writes them; true for any other writer."""
    if path.stat().st_size >= LARGEST or not entries:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        heads = [data[entry.header_offset : entry.header_offset + 30] for entry in entries]
        if 2 * sum(head.startswith(HEADER) for head in heads) <= len(heads):
            return True
        end = 0
        for entry, head in zip(entries, heads, strict=True):
            if entry.header_offset != end or not head.startswith(_header(entry)):
                return False
            names, padding = struct.unpack("<2H", head[26:])
            start = end + 30 + names
            after = start + padding + entry.file_size
            sums = struct.pack("<4s3L", b"PK\x07\x08", entry.CRC, entry.compress_size, entry.file_size)
            sums = sums if entry.file_size else b""
            end = after + len(sums)
            if not _is_padding(data[start : start + padding]) or data[after:end] != sums:
                return False
        return end == directory and _is_directory(data[directory:], entries, directory)


def _header(entry: zipfile.ZipInfo) -> bytes:
    return HEADER if entry.file_size else EMPTY


def _is_padding(extra: bytes) -> bool:
    return not extra or extra == b"FB" + struct.pack("<H", len(extra) - 4) + b"Z" * (len(extra) - 4)


def _is_directory(data: bytes, entries: Sequence[zipfile.ZipInfo], directory: int) -> bool:
    """Whether the list of entries at the end says what their headers say."""
    whole = len(data)
    for entry in entries:
        name = entry.orig_filename.encode()
        sizes = (entry.CRC, entry.compress_size, entry.file_size, len(name))
        head = struct.pack("<4s6H3LH", b"PK\x01\x02", 0, *struct.unpack("<5H", _header(entry)[4:14]), *sizes)
        head += bytes(12) + struct.pack("<L", entry.header_offset) + name
        if not data.startswith(head):
            return False
        data = data[len(head) :]
    return data == _end(len(entries), whole - len(data), directory)


def _end(count: int, size: int, offset: int) -> bytes:
    """What follows the list of entries: how many, its size and its place, in the new form and the old one."""
    new = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 0x31E, 45, 0, 0, count, count, size, offset)
    place = struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + size, 1)
    few = min(count, 0xFFFF)
    return new + place + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, few, few, size, offset, 0)
