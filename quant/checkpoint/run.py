"""A plan from its first byte to the rename: what is finished is kept, what is not is computed, OUT appears at the end.

Jobs run in two threads: while one waits for the disk, or for `fdatasync`, the other reads, computes or hashes, all of
which leave Python's lock alone. More threads would hold more buffers and find no more cores in torch's own. Every byte
has its place beforehand, so the order in which jobs end does not show in the result.

Memory is that of two jobs: their buffers, whatever the model's size.
"""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.checkpoint.file_io import unwritable
from quant.checkpoint.finishing import write_small_files
from quant.checkpoint.folder import Checkpoint
from quant.checkpoint.layout import FileLayout, lay_out
from quant.checkpoint.manifest import Watch
from quant.checkpoint.partial import Partial
from quant.checkpoint.plan import Job, Plan, check_plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.tensor_bytes import raw_bytes
from quant.errors import QuantError
from quant.version import __version__

WORKERS = 2


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        out: the folder that was made.
        tensors: how many it holds; kept: how many of them an interrupted run had finished and were found intact.
        nbytes: of its safetensors files.
    """

    out: Path
    tensors: int
    kept: int
    nbytes: int


def check_out(out: Path) -> Path:
    """OUT as an absolute path, before anything is read or computed.

    Raises:
        QuantError: it is there (an empty folder may be, but for a mount point), or its folder is not.
    """
    resolved = out.resolve()
    try:
        taken = resolved.exists() and not (resolved.is_dir() and not any(resolved.iterdir()))
    except OSError as error:  # a name that no file system would take, a folder that may not be read
        raise QuantError(f"{out} cannot be made ({error.strerror}): name another folder") from error
    if taken:
        raise QuantError(f"{out} exists: name a folder that does not, or remove it")
    if os.path.ismount(resolved):
        raise QuantError(f"{out} is a mount point, which no folder can be renamed to: name a folder in it")
    if not (resolved.parent.is_dir() and os.access(resolved.parent, os.W_OK | os.X_OK)):
        raise QuantError(f"{out}: the folder {resolved.parent} does not exist or cannot be written to: name another")
    return resolved


def run(
    plan: Plan, checkpoint: Checkpoint, out: Path, restart: bool = False, watch: Watch = lambda done, total: None
) -> Outcome:
    """Convert `checkpoint` into the folder `out`.

    Args:
        restart: discard what an interrupted run left, instead of refusing it where it does not fit.
        watch: called with the bytes that are done, and how many there are: tensors count when they are written, and
            files once more when they are read back for the manifest.

    Raises:
        QuantError: see `check_out`, `check_plan` and `Partial.begin`; a disk that is full; whatever the jobs raise.
            What is finished by then is kept for the same command.
    """
    out = check_out(out)
    check_plan(plan)
    layouts = {file: lay_out(tensors) for file, tensors in plan.files.items()}
    nbytes = sum(layout.size for layout in layouts.values())
    partial = Partial(out)
    try:
        with Inputs(checkpoint) as inputs:
            partial.begin(_identity(plan, checkpoint, layouts), restart)
            with _keeping_what_is_finished(partial):
                check_out(out)  # it may have been made until the lock was ours
                partial.allocate(layouts)
                progress = _Progress(watch, nbytes + sum(tensor.nbytes for job in plan.jobs for tensor in job.outputs))
                kept = _Jobs(partial, inputs, progress).run(plan.jobs)
                inputs.check_unchanged()
                write_small_files(plan, partial, progress.advance)
                partial.complete()
    except OSError as error:
        raise unwritable(f"{partial.folder} cannot be completed", error) from error
    finally:
        partial.close()
    return Outcome(out, sum(len(job.outputs) for job in plan.jobs), kept, nbytes)


def _identity(plan: Plan, checkpoint: Checkpoint, layouts: Mapping[str, FileLayout]) -> dict[str, Any]:
    """What two runs must have in common for one to take up the other, by names that are told where it is not so.

    Headers do not say what the data is, so the time of modification must be the same as well: weights of the same
    shapes are saved over older ones every day.
    """
    inputs = {name: [header.size, header.digest, header.modified] for name, header in checkpoint.files.items()}
    headers = hashlib.sha256(b"".join(layouts[file].header for file in sorted(layouts)))
    return {"version": __version__, "input files": inputs, **plan.settings, "output tensors": headers.hexdigest()}


@contextmanager
def _keeping_what_is_finished(partial: Partial) -> Iterator[None]:
    """A partial folder with nothing finished in it is of no use after an error, and may fill the disk."""
    try:
        yield
    except BaseException:
        if not partial.journal.finished:
            partial.discard()
        raise


class _Progress:
    """Bytes done, from any thread."""

    def __init__(self, watch: Watch, total: int) -> None:
        self._watch, self._total, self._done = watch, total, 0
        self._lock = threading.Lock()

    def advance(self, nbytes: int) -> None:
        with self._lock:
            self._done += nbytes
            self._watch(self._done, self._total)


class _Jobs:
    """Does jobs in threads, until one fails."""

    def __init__(self, partial: Partial, inputs: Inputs, progress: _Progress) -> None:
        self._partial, self._inputs, self._progress = partial, inputs, progress
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, jobs: Iterable[Job]) -> int:
        """Do all jobs that are not finished; returns how many tensors of an earlier run were intact."""
        with ThreadPoolExecutor(WORKERS) as pool:
            futures = [pool.submit(self._do, job) for job in jobs]
            try:
                return sum(future.result() for future in as_completed(futures))
            except BaseException:
                self._stop.set()  # an interrupt comes to this thread only
                raise

    def _do(self, job: Job) -> int:
        """Do `job`; returns the number of its tensors that an earlier run had done."""
        try:
            if self._stop.is_set():
                return 0
            if self._is_intact(job):
                return len(job.outputs)
            digests = self._make(job)
            if not self._stop.is_set():
                self._partial.sync(job)
                with self._lock:
                    self._partial.finish(job, digests)
            return 0
        except BaseException:
            self._stop.set()
            raise

    def _is_intact(self, job: Job) -> bool:
        """Whether an earlier run finished `job` and its bytes are still what they were."""
        entered = [self._partial.journal.finished.get((tensor.file, tensor.name)) for tensor in job.outputs]
        if None in entered or entered != [self._partial.digest(tensor) for tensor in job.outputs]:
            return False
        self._progress.advance(sum(tensor.nbytes for tensor in job.outputs))
        return True

    def _make(self, job: Job) -> dict[str, str]:
        """Write the outputs of `job`; returns the SHA-256 of each. Incomplete once another job has failed."""
        outputs = {tensor.name: tensor for tensor in job.outputs}
        digests = {name: hashlib.sha256() for name in outputs}
        written = dict.fromkeys(outputs, 0)
        for name, values in job.produce(self._inputs):
            if self._stop.is_set():
                return {}
            data = raw_bytes(values)
            if values.dtype != outputs[name].dtype or written[name] + len(data) > outputs[name].nbytes:
                raise RuntimeError(f"a job made more of {outputs[name]} than it is, or another dtype: {values.dtype}")
            self._partial.write(outputs[name], written[name], data)
            digests[name].update(data)
            written[name] += len(data)
            self._progress.advance(len(data))
        for name, tensor in outputs.items():
            if written[name] != tensor.nbytes:
                raise RuntimeError(f"a job made {written[name]} bytes of {tensor}")
        return {name: digest.hexdigest() for name, digest in digests.items()}
