"""Kill a run at every step that changes the disk, take it up again, and say what came of it: `python -m ... MODEL OUT`.

A step is a call of one of `STEPS`. For every n, a forked child runs the plan and sends itself SIGKILL in the middle of
its n-th step: after half of the bytes, where the step writes bytes, else before it. A second child then runs the same
to its end. Last come kills by the parent, after random times, which also fall between the steps, while a run reads and
computes. One line of JSON per kill: what was there after it, how many tensors the second run kept, and the digests of
what it made.

The functions are replaced in the children only, so what runs is the code as it is. Forking, and not starting, a process
per kill saves the seconds of `import torch`; nothing here has used torch's threads before.
"""

import itertools
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant.checkpoint.folder import Checkpoint, open_checkpoint
from quant.checkpoint.run import run
from quant.schemes import NF4
from tests.unit.checkpoint.files import digests, plan_of

SYSTEM_CALLS = ("mkdir", "open", "ftruncate", "posix_fallocate", "fdatasync", "fsync", "rename", "unlink", "rmdir")
RANDOM_KILLS = 5


def half_pwrite(handle: int, data: memoryview, position: int) -> None:
    """Half of what `os.pwrite` would write."""
    PWRITE(handle, data[: len(data) // 2], position)


def half_write_text(path: Path, text: str, encoding: str) -> None:
    """Half of what `Path.write_text` would write."""
    path.write_bytes(text.encode(encoding)[: len(text) // 2])


def half_copyfile(source: Path, target: Path) -> None:
    """Half of what `shutil.copyfile` would copy."""
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 2])


def nothing(*_: Any, **__: Any) -> None:
    """For a step that is done or not."""


PWRITE = os.pwrite
STEPS: list[tuple[Any, str, Callable[..., None]]] = [
    *((os, name, nothing) for name in SYSTEM_CALLS),
    (os, "pwrite", half_pwrite),
    (Path, "write_text", half_write_text),
    (shutil, "copyfile", half_copyfile),
]
"""(where a function is, its name, half of what it does)."""


class Steps:
    """Counts steps from any thread, and kills the process in the middle of the `last`-th."""

    def __init__(self, last: int | None) -> None:
        self.count, self.last = 0, last
        self._lock = threading.Lock()

    def is_last(self) -> bool:
        with self._lock:
            self.count += 1
            return self.count == self.last

    def watch(self, owner: Any, name: str, half: Callable[..., None]) -> None:
        """Replace `owner.name` by one that counts."""
        function = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            if self.is_last():
                half(*arguments, **options)
                die()
            return function(*arguments, **options)

        setattr(owner, name, counted)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], dict[str, Any]], kill_after: float | None = None) -> tuple[dict[str, Any], bool]:
    """Run `work` in a forked process; returns what it returned, and whether SIGKILL ended it before."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        answer = {}
        try:
            answer = work()
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text or b"{}"), os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def run_once(checkpoint: Checkpoint, out: Path, last: int | None) -> dict[str, Any]:
    """Run the plan to its end, or to the middle of step `last`."""
    steps = Steps(last)
    for step in STEPS:
        steps.watch(*step)
    kept = run(plan_of(checkpoint, NF4(double_quant=True)), checkpoint, out).kept
    return {"kept": kept, "steps": steps.count}


def killed_at(checkpoint: Checkpoint, out: Path, last: int | None, kill_after: float | None = None) -> dict[str, Any]:
    """Kill a run into `out`, finish it, and describe both; empties the folder that `out` is in."""
    _, killed = in_child(lambda: run_once(checkpoint, out, last), kill_after)
    record: dict[str, Any] = {"step": last, "killed": killed, "finished": out.exists()}
    if not record["finished"]:
        record["second"], _ = in_child(lambda: run_once(checkpoint, out, None))
    record["digests"] = digests(out)
    for path in sorted(out.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return record


def main() -> None:
    """Print a line of JSON for every kill."""
    model, out = map(Path, sys.argv[1:])
    checkpoint = open_checkpoint(model)
    for last in itertools.count(1):
        record = killed_at(checkpoint, out, last)
        if not record["killed"]:  # it ended before its n-th step, so there are no more
            break
        sys.stdout.write(json.dumps(record) + "\n")
    started = time.monotonic()
    in_child(lambda: run_once(checkpoint, out.with_name("measured"), None))
    duration = time.monotonic() - started
    times = random.Random(0)
    for _ in range(RANDOM_KILLS):
        seconds = times.uniform(0, duration)
        record = killed_at(checkpoint, out, None, seconds)
        while not record["killed"]:  # it was faster than the one that was measured
            seconds /= 2
            record = killed_at(checkpoint, out, None, seconds)
        sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
