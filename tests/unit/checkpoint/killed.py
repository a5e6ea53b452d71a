"""Kill a run at every step that touches the disk, take it up again, and say what came of it: `python -m ... MODEL OUT`.

A step is a call of one of `STEPS` or a line of the journal. For every n, a forked child runs the plan and sends itself
SIGKILL in the middle of its n-th step: after half of the bytes, where the step writes bytes, else before it. A second
child then runs the same to its end. Last come kills by the parent, after random times. One line of JSON per kill: what
was there after it, how many tensors the second run kept, and the digests of what it made.

The functions are replaced in the children only, so what runs is the code as it is. Forking, and not starting, a process
per kill saves the seconds of `import torch`; nothing here has used torch's threads before.
"""

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quant.checkpoint.folder import Checkpoint, open_checkpoint
from quant.checkpoint.partial import Partial
from quant.checkpoint.run import run
from quant.schemes import NF4
from tests.unit.checkpoint.files import digests, plan_of

STEPS = (
    *("mkdir", "ftruncate", "posix_fallocate", "pwrite", "fdatasync", "fsync", "rename", "unlink", "rmdir"),
    *("open", "preadv", "fstat"),
)
RANDOM_KILLS = 5


class Steps:
    """Counts steps from any thread, and kills the process in the middle of the `last`-th."""

    def __init__(self, last: int | None) -> None:
        self.count, self.last = 0, last
        self._lock = threading.Lock()

    def is_last(self) -> bool:
        with self._lock:
            self.count += 1
            return self.count == self.last

    def watch(self, name: str) -> None:
        """Replace `os.<name>` by one that counts."""
        function = getattr(os, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            if self.is_last():
                if name == "pwrite":
                    handle, data, position = arguments
                    function(handle, data[: len(data) // 2], position)
                die()
            return function(*arguments, **options)

        setattr(os, name, counted)

    def watch_journal(self) -> None:
        """Replace the method that writes a line."""
        steps, whole = self, Partial._write_line

        def counted(self: Partial, entry: Mapping[str, Any]) -> None:
            if steps.is_last():
                line = json.dumps(entry).encode()
                self._journal.write(line[: len(line) // 2])
                self._journal.flush()
                die()
            whole(self, entry)

        Partial._write_line = counted  # type: ignore[method-assign]


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
    for name in STEPS:
        steps.watch(name)
    steps.watch_journal()
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
        sys.stdout.write(json.dumps(killed_at(checkpoint, out, None, times.uniform(0, duration))) + "\n")


if __name__ == "__main__":
    main()
