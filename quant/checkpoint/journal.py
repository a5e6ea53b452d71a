"""The journal of a run, `journal.jsonl`: what the run is, and which tensors are finished.

    {"version": "0.1.0", "input files": {...}, "scheme": "...", "output tensors": "..."}
    {"finished": [["model.safetensors", "model.norm.weight", "<SHA-256>"], ...]}

One line of the second kind for every job that is finished. A line is written at once and whole, with nothing buffered:
where the disk is full its part is overwritten by the next line, and closing the journal brings nothing of it back. What
a kill or a power cut left of the last line is dropped when the journal is taken up, with all that follows.

Two runs into the same folder exclude each other by a lock on the journal (`flock`), which dies with its process.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from quant.checkpoint.file_io import unwritable, write_fully
from quant.checkpoint.plan import OutputTensor
from quant.errors import QuantError


class Journal:
    """A journal, locked from `open` to `close`.

    Attributes:
        path: of its file.
        finished: (file, tensor) -> hex SHA-256, of all tensors that are entered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.finished: dict[tuple[str, str], str] = {}
        self._handle = -1
        self._length = 0
        self._stack = ExitStack()

    def open(self) -> None:
        """Lock the file, which is made where there is none.

        Raises:
            QuantError: another process has it, or the file system has no locks.
            OSError: it cannot be opened.
        """
        import fcntl  # noqa: PLC0415  (Windows has none, and needs none for the rest of the package)

        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._stack.callback(os.close, self._handle)
        folder = self.path.parent
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise QuantError(f"{folder} is being written by another run: wait, or name another OUT") from error
        except OSError as error:
            raise QuantError(
                f"{self.path} cannot be locked ({error.strerror}): name an OUT on a file system that has locks"
            ) from error

    def close(self) -> None:
        """Give the lock back."""
        self._stack.close()

    def is_in_place(self) -> bool:
        """Whether the open file is still the one of that name, and not removed by the run that had the lock before."""
        return self.path.exists() and os.path.samestat(os.fstat(self._handle), self.path.stat())

    def take_up(self, identity: Mapping[str, Any]) -> bool:
        """Read what an earlier run entered; False where not even its first line is whole.

        Raises:
            QuantError: that run was of another `identity`.
        """
        for line in self.path.read_bytes().splitlines(keepends=True):
            entry = _parse(line)
            if entry is None:
                break
            if not self._length:
                self._check_identity(entry, identity)
            elif "finished" in entry:
                self.finished.update({(file, name): digest for file, name, digest in entry["finished"]})
            else:
                break
            self._length += len(line)
        os.ftruncate(self._handle, self._length)
        return self._length > 0

    def start(self, identity: Mapping[str, Any]) -> None:
        """Begin anew, with the first line.

        Raises:
            QuantError: it cannot be written.
        """
        self._length = 0
        os.ftruncate(self._handle, 0)
        self._write_line(identity)

    def enter(self, tensors: Sequence[OutputTensor], digests: Mapping[str, str]) -> None:
        """Enter the outputs of a job, which are on the disk. digests: name -> hex SHA-256. One thread at a time.

        Raises:
            QuantError: the line cannot be written; nothing is entered then.
        """
        self._write_line({"finished": [[tensor.file, tensor.name, digests[tensor.name]] for tensor in tensors]})
        self.finished.update({(tensor.file, tensor.name): digests[tensor.name] for tensor in tensors})

    def _check_identity(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        different = [key for key in wanted if found.get(key) != wanted[key]]
        if different:
            raise QuantError(
                f"{self.path.parent} is left from an interrupted run, but of other {', '.join(different)}: repeat that "
                "command to finish it, or pass --restart to discard what it did"
            )

    def _write_line(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        try:
            write_fully(self._handle, memoryview(line), self._length)
        except OSError as error:
            raise unwritable(f"{self.path} cannot be written", error) from error
        self._length += len(line)


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line of the journal, None where it was cut short."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
