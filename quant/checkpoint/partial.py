"""The folder that a run writes, until it is renamed to OUT: `OUT.partial`, which holds

    journal.jsonl    what the run is (its first line), then a line for every job that is finished
    files/           what will be OUT, every safetensors file at its final size from the start

A run that was killed at any moment, by a signal or by the power, leaves no OUT and a partial folder that the same
command takes up:

* a job is entered in the journal only when its bytes are on the disk (`fdatasync` comes before the line is written),
  with their SHA-256. The entry itself may be lost, then the job is done again;
* a line that was cut short is dropped, with all that follow;
* what is entered is read back and must have its checksum; what has not is done again;
* OUT appears by one rename, when all files are on the disk.

Two runs into the same OUT exclude each other by a lock on the journal (`flock`), which dies with its process. Refused,
and not removed: a partial folder of other inputs or settings, which may be hours of work, and a folder of that name
that is none of ours.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

from quant.checkpoint.layout import FileLayout
from quant.checkpoint.plan import Job, OutputTensor
from quant.checkpoint.raw import digest_of, sync_path, write_fully
from quant.errors import QuantError

JOURNAL = "journal.jsonl"


class Partial:
    """The partial folder of `out`, locked from `begin` to `close`.

    Attributes:
        out: the folder that it will be; folder: the partial folder; files: the folder with the files.
        finished: (file, tensor) -> hex SHA-256, as the journal has it.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}.partial")
        self.files = self.folder / "files"
        self.finished: dict[tuple[str, str], str] = {}
        self._layouts: Mapping[str, FileLayout] = {}
        self._handles: dict[str, int] = {}
        self._stack = ExitStack()
        self._journal: BinaryIO

    def close(self) -> None:
        """Close all files and give the lock back."""
        self._stack.close()

    def begin(self, identity: Mapping[str, Any], restart: bool) -> None:
        """Take up the journal of a run of the same `identity`, or start one.

        Raises:
            QuantError: another process has it, it is of another run and `restart` is not set, or not ours.
        """
        path = self.folder / JOURNAL
        if self.folder.is_dir() and any(self.folder.iterdir()) and not path.is_file():
            raise QuantError(f"{self.folder} is in the way and was not made by quant: remove it, or name another OUT")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = self._stack.enter_context(path.open("a+b"))
        self._lock()
        if restart and self.files.exists():
            shutil.rmtree(self.files)
        kept = self._read_journal(identity) if self.files.is_dir() else 0
        self._journal.truncate(kept)
        if not kept:
            self._write_line(identity)
        self.files.mkdir(exist_ok=True)

    def _lock(self) -> None:
        import fcntl  # noqa: PLC0415  (Windows has none, and needs none for the rest of the package)

        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise QuantError(f"{self.folder} is being written by another run: wait, or name another OUT") from error
        path = self.folder / JOURNAL
        if not path.exists() or not os.path.samestat(os.fstat(self._journal.fileno()), path.stat()):
            raise QuantError(f"{self.folder} was finished by another run this moment: look at {self.out}")

    def _read_journal(self, identity: Mapping[str, Any]) -> int:
        """Fill `finished`; returns the bytes of the lines that are complete, up to the first that is not."""
        self._journal.seek(0)
        kept = 0
        for line in self._journal:
            entry = _parse(line)
            if entry is None:
                break
            if not kept:
                self._check_identity(entry, identity)
            elif "finished" in entry:
                self.finished.update({(file, name): digest for file, name, digest in entry["finished"]})
            else:
                break
            kept += len(line)
        return kept

    def _check_identity(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        different = [key for key in wanted if found.get(key) != wanted[key]]
        if different:
            raise QuantError(
                f"{self.folder} is left from an interrupted run, but of other {', '.join(different)}: repeat that "
                "command to finish it, or pass --restart to discard what it did"
            )

    def _write_line(self, entry: Mapping[str, Any]) -> None:
        self._journal.write(json.dumps(entry).encode() + b"\n")
        self._journal.flush()

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
                raise _unwritable(f"{path}, of {layout.size:,} bytes,", error) from error

    def write(self, tensor: OutputTensor, position: int, data: memoryview) -> None:
        """Write `data` at byte `position` of `tensor`.

        Raises:
            QuantError: it cannot be written.
        """
        start = self._layouts[tensor.file].offsets[tensor.name]
        try:
            write_fully(self._handles[tensor.file], data, start + position)
        except OSError as error:
            raise _unwritable(f"{self.files / tensor.file}: tensor {tensor.name}", error) from error

    def digest(self, tensor: OutputTensor) -> str:
        """Hex SHA-256 of what the file holds at the place of `tensor`."""
        start = self._layouts[tensor.file].offsets[tensor.name]
        return digest_of(self._handles[tensor.file], start, tensor.nbytes)

    def sync(self, job: Job) -> None:
        """Bring what was written of the outputs of `job` to the disk.

        Raises:
            QuantError: the disk does not take it (some tell only now that they are full).
        """
        for tensor in {tensor.file: tensor for tensor in job.outputs}.values():
            try:
                getattr(os, "fdatasync", os.fsync)(self._handles[tensor.file])
            except OSError as error:
                raise _unwritable(f"{self.files / tensor.file}: tensor {tensor.name}", error) from error

    def finish(self, job: Job, digests: Mapping[str, str]) -> None:
        """Enter `job`, whose outputs are on the disk. digests: name of each -> hex SHA-256. One thread at a time."""
        self.finished.update({(tensor.file, tensor.name): digests[tensor.name] for tensor in job.outputs})
        self._write_line({"finished": [[tensor.file, tensor.name, digests[tensor.name]] for tensor in job.outputs]})

    def complete(self) -> None:
        """Rename the files to OUT and remove what was needed to get there.

        Raises:
            QuantError: OUT has come into being and is not empty.
        """
        for path in (*self.files.iterdir(), self.files):
            sync_path(path)
        try:
            self.files.rename(self.out)
        except OSError as error:
            raise QuantError(
                f"{self.out} has appeared meanwhile ({error.strerror}): move it away and run the same command again"
            ) from error
        sync_path(self.out.parent)
        self.discard()

    def discard(self) -> None:
        """Remove what is ours of the partial folder. What cannot be removed is left: OUT does not depend on it."""
        with suppress(OSError):
            if self.files.exists():
                shutil.rmtree(self.files)
            (self.folder / JOURNAL).unlink()
            self.folder.rmdir()


def _unwritable(what: str, error: OSError) -> QuantError:
    return QuantError(f"{what} cannot be written ({error.strerror}): make room, then run the same command again")


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line of the journal, None where it was cut short."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


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
