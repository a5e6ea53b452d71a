"""The folder that a run writes, until it is renamed to OUT: `OUT.partial`, which holds

    journal.jsonl    what the run is, and which tensors are finished (`quant.checkpoint.journal`)
    files/           what will be OUT, every safetensors file at its final size from the start

A run that was killed at any moment, by a signal or by the power, leaves no OUT and a partial folder that the same
command takes up:

* a job is entered in the journal only when its bytes are on the disk (`fdatasync` comes before the line is written),
  with their SHA-256. The entry itself may be lost, then the job is done again;
* what is entered is read back and must have its checksum; what has not is done again;
* OUT appears by one rename, when all files are on the disk.

Refused, and not removed: a partial folder of other inputs or settings, which may be hours of work, and a folder of that
name that is none of ours.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from quant.checkpoint.file_io import digest_of, sync_path, unwritable, write_fully
from quant.checkpoint.journal import Journal
from quant.checkpoint.layout import FileLayout
from quant.checkpoint.plan import Job, OutputTensor
from quant.errors import QuantError

JOURNAL = "journal.jsonl"
IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""What renaming a folder says where the new name is taken."""


class Partial:
    """The partial folder of `out`, locked from `begin` to `close`.

    Attributes:
        out: the folder that it will be; folder: the partial folder; files: the folder with the files.
        journal: of the folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}.partial")
        self.files = self.folder / "files"
        self.journal = Journal(self.folder / JOURNAL)
        self._layouts: Mapping[str, FileLayout] = {}
        self._handles: dict[str, int] = {}
        self._stack = ExitStack()
        self._stack.callback(self.journal.close)

    def close(self) -> None:
        """Close all files and give the lock back."""
        self._stack.close()

    def begin(self, identity: Mapping[str, Any], restart: bool) -> None:
        """Take up the journal of a run of the same `identity`, or start one.

        Raises:
            QuantError: another process has it, it is of another run and `restart` is not set, it is not ours, or it
                cannot be written.
            OSError: a folder cannot be made.
        """
        if self.folder.is_dir() and any(self.folder.iterdir()) and not self.journal.path.is_file():
            raise QuantError(f"{self.folder} is in the way and was not made by quant: remove it, or name another OUT")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal.open()
        if not self.journal.is_in_place():
            raise QuantError(f"{self.folder} was finished by another run this moment: look at {self.out}")
        if restart and self.files.exists():
            shutil.rmtree(self.files)
        if self.files.is_dir() and self.journal.take_up(identity):
            return
        try:
            self.journal.start(identity)
            self.files.mkdir(exist_ok=True)
        except BaseException:
            self.discard()
            raise

    def allocate(self, layouts: Mapping[str, FileLayout]) -> None:
        """Create each file at its final size, with its header.

        Raises:
            QuantError: the disk is full.
        """
        self._layouts = layouts
        for name, layout in layouts.items():
            path = self.files / name
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self._stack.callback(os.close, handle)
                self._handles[name] = handle
                _allocate(handle, layout.size)
                write_fully(handle, memoryview(layout.header), 0)
            except OSError as error:
                raise unwritable(f"{path}, of {layout.size:,} bytes, cannot be written", error) from error

    def write(self, tensor: OutputTensor, position: int, data: memoryview) -> None:
        """Write `data` at byte `position` of `tensor`.

        Raises:
            QuantError: it cannot be written.
        """
        start = self._layouts[tensor.file].offsets[tensor.name]
        try:
            write_fully(self._handles[tensor.file], data, start + position)
        except OSError as error:
            raise self._unwritable(tensor, error) from error

    def digest(self, tensor: OutputTensor) -> str:
        """Hex SHA-256 of what the file holds at the place of `tensor`."""
        start = self._layouts[tensor.file].offsets[tensor.name]
        return digest_of(self._handles[tensor.file], start, tensor.nbytes)

    def finish(self, job: Job, digests: Mapping[str, str]) -> None:
        """Enter `job`, whose outputs are on the disk. digests: name of each -> hex SHA-256. One thread at a time.

        Raises:
            QuantError: the journal cannot be written.
        """
        self.journal.enter(job.outputs, digests)

    def sync(self, job: Job) -> None:
        """Bring what was written of the outputs of `job` to the disk.

        Raises:
            QuantError: the disk does not take it (some tell only now that they are full).
        """
        for tensor in {tensor.file: tensor for tensor in job.outputs}.values():
            try:
                getattr(os, "fdatasync", os.fsync)(self._handles[tensor.file])
            except OSError as error:
                raise self._unwritable(tensor, error) from error

    def complete(self) -> None:
        """Rename the files to OUT and remove what was needed to get there.

        Raises:
            QuantError: OUT has come into being and is not empty, or the folder cannot be renamed.
            OSError: the files cannot be brought to the disk.
        """
        for path in (*self.files.iterdir(), self.files):
            sync_path(path)
        try:
            self.files.rename(self.out)
        except OSError as error:
            if error.errno in IN_THE_WAY:
                raise QuantError(
                    f"{self.out} has appeared meanwhile ({error.strerror}): move it away and run the same command again"
                ) from error
            raise unwritable(f"{self.files} cannot be renamed to {self.out}", error) from error
        with suppress(OSError):  # OUT is there and whole, whether or not the system brings its name to the disk now
            sync_path(self.out.parent)
        self.discard()

    def discard(self) -> None:
        """Remove what is ours of the partial folder. What cannot be removed is left: OUT does not depend on it."""
        with suppress(OSError):
            if self.files.exists():
                shutil.rmtree(self.files)
            self.journal.path.unlink()
            self.folder.rmdir()

    def _unwritable(self, tensor: OutputTensor, error: OSError) -> QuantError:
        return unwritable(f"{self.files / tensor.file}: tensor {tensor.name} cannot be written", error)


def _allocate(handle: int, size: int) -> None:
    """Make the file exactly `size` bytes, given to it by the file system at once where it can do that."""
    os.ftruncate(handle, size)
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a full disk is then told when it is written
            raise
