"""Open files by position: read and written to the last byte, summed, brought to the disk; and what is told where the
system refuses.

Positions are given with every call (`pread`, `pwrite`), so threads share a handle without a lock. Memory is that of one
buffer, whatever is read.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from quant.errors import QuantError

BUFFER_BYTES = 1 << 22


def read_fully(handle: int, buffer: memoryview, position: int) -> int:
    """Fill `buffer` from byte `position` of the file on; returns the bytes read, fewer at its end. Raises OSError."""
    done = 0
    while done < len(buffer):
        got = os.preadv(handle, [buffer[done:]], position + done)
        if not got:
            break
        done += got
    return done


def write_fully(handle: int, data: memoryview, position: int) -> None:
    """Write all of `data` at byte `position` of the file. Raises OSError."""
    while data:
        written = os.pwrite(handle, data, position)
        data, position = data[written:], position + written


def read_chunks(handle: int, start: int, nbytes: int) -> Iterator[memoryview]:
    """`nbytes` bytes of an open file from `start` on, or those that there are, each chunk in the same memory."""
    buffer = memoryview(bytearray(min(BUFFER_BYTES, nbytes)))
    end = start + nbytes
    while start < end:
        got = read_fully(handle, buffer[: end - start], start)
        if not got:
            return
        yield buffer[:got]
        start += got


def digest_of(handle: int, start: int, nbytes: int) -> str:
    """Hex SHA-256 of `nbytes` bytes of an open file from `start` on, or of those that there are."""
    digest = hashlib.sha256()
    for data in read_chunks(handle, start, nbytes):
        digest.update(data)
    return digest.hexdigest()


def sync_path(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(what: str, error: OSError) -> QuantError:
    """The error for `what` ("FILE cannot be written"), with the system's reason and the remedy for it."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room" if full else "check the disk and the permissions"
    reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror or str(error)
    return QuantError(f"{what} ({reason}): {remedy}, then run the same command again")
