"""Reads a regular file that an operator named, up to a size limit, without ever waiting for a writer.

Opening a FIFO waits until somebody writes to it, and opening some devices has effects. So the kind of file is checked
before it is opened. It is checked again on the open file, because the file may have been replaced in between.
"""

import os
import stat
from pathlib import Path
from typing import Final

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO (a named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

# O_NONBLOCK: a FIFO that took the file's place after the first look is opened at once. O_NOCTTY: so is a terminal.
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

_PIECE_BYTES: Final = 1 << 20


class FileError(Exception):
    """A file can't be read; the message says why and leaves its name to the caller."""


def read(path: str | Path, max_bytes: int) -> bytes:
    """Return what a regular file holds; links are followed.

    Args:
        path: the file.
        max_bytes: a larger file is an error. Not more than this and one byte is ever read.

    Raises:
        FileError: there is no such file, it may not be read, is no regular file, or is too large.
    """
    check(path, max_bytes)
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            _check(os.fstat(descriptor), max_bytes)
            return _read(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileError(reason(error)) from None


def check(path: str | Path, max_bytes: int) -> None:
    """Check a file that something else will read, without opening it.

    Raises:
        FileError: as `read` does, but for what only opening the file would show.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and os.path.islink(path):
            raise FileError("is a link to a file that does not exist") from None
        raise FileError(reason(error)) from None
    _check(found, max_bytes)


def _check(found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"is {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a regular file")
    if found.st_size > max_bytes:
        raise _too_large(max_bytes)


def reason(error: OSError) -> str:
    """Return the system's words for an error, without the file's name."""
    return os.strerror(error.errno) if error.errno else "it can't be read"


def _read(descriptor: int, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := os.read(descriptor, min(_PIECE_BYTES, max_bytes + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
    return b"".join(pieces)


def _too_large(max_bytes: int) -> FileError:
    return FileError(f"is larger than {size_of(max_bytes)}")


def size_of(size: int) -> str:
    """Return a limit in words: 32 MiB, 64 KiB, 100 bytes."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
