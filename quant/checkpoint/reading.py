"""Elements of stored tensors, read with `pread` into buffers that are used again.

Reading instead of mapping keeps the memory of a conversion at its buffers, whatever the model's size: mapped pages
count as resident until the kernel takes them back. Every job of a conversion may read any tensor, from several threads
at once (`pread` has no position that they would share).
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

import torch
from torch import Tensor
from typing_extensions import Self

from quant.checkpoint.file_io import read_fully
from quant.checkpoint.folder import Checkpoint
from quant.checkpoint.headers import StoredTensor
from quant.checkpoint.tensor_bytes import raw_bytes
from quant.errors import QuantError

CHUNK_ELEMENTS = 1 << 20
"""Elements read at a time where the caller does not say: 2 MB of bfloat16. Four times as many were no faster, and took
30 MB more."""


class Inputs:
    """The open files of a checkpoint. A context manager: the files are closed at its end.

    Attributes:
        checkpoint: what is in them.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._tensors = checkpoint.tensors
        self._handles: dict[str, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            for header in self.checkpoint.files.values():
                handle = os.open(header.path, os.O_RDONLY | os.O_CLOEXEC)
                self._stack.callback(os.close, handle)
                self._handles[str(header.path)] = handle
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except OSError as error:
            self._stack.close()
            raise QuantError(f"{header.path} cannot be read ({error.strerror}): check the file") from error
        self.check_unchanged()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor called `name`."""
        return name in self._tensors

    def __getitem__(self, name: str) -> StoredTensor:
        """The tensor called `name`."""
        return self._tensors[name]

    def read(self, name: str, start: int = 0, count: int | None = None) -> Tensor:
        """`count` elements (default: all that follow) of the flattened tensor `name` from element `start`, as stored:
        a new tensor [count].

        Raises:
            QuantError: the file cannot be read, or has become shorter.
        """
        stored = self[name]
        buffer = torch.empty(stored.count - start if count is None else count, dtype=stored.dtype)
        self._fill(stored, start, buffer)
        return buffer

    def chunks(self, name: str, elements: int = CHUNK_ELEMENTS) -> Iterator[Tensor]:
        """The flattened tensor `name` in chunks of `elements`, the last one shorter; a tensor of none yields none. Each
        is in the same memory, so it is to be used up before the next.
        """
        stored = self[name]
        buffer = torch.empty(min(elements, stored.count), dtype=stored.dtype)
        for start in range(0, stored.count, elements):
            chunk = buffer[: stored.count - start]
            self._fill(stored, start, chunk)
            yield chunk

    def check_unchanged(self) -> None:
        """Raises:
        QuantError: a file is not the one whose header was checked: changed or replaced since.
        """
        for header in self.checkpoint.files.values():
            if _size_and_time(os.fstat(self._handles[str(header.path)])) != (header.size, header.modified):
                raise QuantError(f"{header.path} has changed since it was opened: start again when it is complete")

    def _fill(self, stored: StoredTensor, start: int, buffer: Tensor) -> None:
        """Read elements from `start` on until `buffer` is full."""
        target = raw_bytes(buffer)
        position = stored.start + start * stored.dtype.itemsize
        try:
            got = read_fully(self._handles[str(stored.path)], target, position)
        except OSError as error:
            raise QuantError(f"{stored} cannot be read ({error.strerror}): check the disk") from error
        if got < len(target):
            raise QuantError(f"{stored} ends early: the file was cut short while it was read, start again")


def _size_and_time(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
