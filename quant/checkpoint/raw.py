"""Bytes: of tensors and of open files, in buffers of a fixed size."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

BUFFER_BYTES = 1 << 22


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of `tensor` in row-major order; its own memory where it is contiguous."""
    if not tensor.numel():
        return memoryview(b"")
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def write_fully(handle: int, data: memoryview, position: int) -> None:
    """Write all of `data` at byte `position` of the file. Raises OSError."""
    while data:
        written = os.pwrite(handle, data, position)
        data, position = data[written:], position + written


def runs(handle: int, start: int, nbytes: int) -> Iterator[memoryview]:
    """`nbytes` bytes of an open file from `start` on, or those that there are, each run in the same memory."""
    buffer = memoryview(bytearray(min(BUFFER_BYTES, nbytes)))
    end = start + nbytes
    while start < end:
        got = os.preadv(handle, [buffer[: end - start]], start)
        if not got:
            return
        yield buffer[:got]
        start += got


def digest_of(handle: int, start: int, nbytes: int) -> str:
    """Hex SHA-256 of `nbytes` bytes of an open file from `start` on, or of those that there are."""
    digest = hashlib.sha256()
    for data in runs(handle, start, nbytes):
        digest.update(data)
    return digest.hexdigest()


def sync_path(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
