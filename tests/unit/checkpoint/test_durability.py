"""What a power cut leaves can be believed: the journal enters what is on the disk, and OUT is renamed when all is.

A test cannot cut the power; it can see in which order the system is asked for what.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from quant.checkpoint.folder import Checkpoint
from quant.checkpoint.journal import Journal
from quant.checkpoint.plan import OutputTensor
from quant.checkpoint.run import run
from quant.schemes import NF4
from tests.unit.checkpoint.files import plan_of

Events = list[tuple[str, int]]


@pytest.fixture
def events(
    checkpoint: Checkpoint, out: Path, partial: Path, one_worker: None, monkeypatch: pytest.MonkeyPatch
) -> Events:
    """Of a whole run, in order: (call, inode of the file it is for, 0 where there is none)."""
    seen: Events = []

    def watch(name: str, number: Callable[..., int]) -> None:
        function = getattr(os, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            seen.append((name, number(*arguments)))
            return function(*arguments, **options)

        monkeypatch.setattr(os, name, watched)

    for name in ("pwrite", "fdatasync", "fsync"):
        watch(name, lambda handle, *_: os.fstat(handle).st_ino)
    watch("rename", lambda source, _: os.stat(source).st_ino)
    enter = Journal.enter

    def watched_enter(self: Journal, tensors: Sequence[OutputTensor], digests: Mapping[str, str]) -> None:
        seen.extend(("entered", (partial / "files" / tensor.file).stat().st_ino) for tensor in tensors)
        enter(self, tensors, digests)

    monkeypatch.setattr(Journal, "enter", watched_enter)
    run(plan_of(checkpoint, NF4()), checkpoint, out)
    return seen


def test_a_tensor_is_entered_after_its_file_was_brought_to_the_disk(events: Events) -> None:
    unsynced: set[int] = set()
    entered = 0
    for call, inode in events:
        if call == "pwrite":
            unsynced.add(inode)
        elif call in ("fdatasync", "fsync"):
            unsynced.discard(inode)
        elif call == "entered":
            assert inode not in unsynced
            entered += 1
    assert entered == 8


def test_every_file_and_the_folder_are_on_the_disk_before_the_rename_and_its_folder_after(
    events: Events, out: Path
) -> None:
    renamed = next(index for index, (call, _) in enumerate(events) if call == "rename")
    last_write = max(index for index, (call, _) in enumerate(events) if call == "pwrite")
    synced = {inode for call, inode in events[last_write:renamed] if call == "fsync"}
    assert synced == {path.stat().st_ino for path in (*out.iterdir(), out)}
    assert ("fsync", out.parent.stat().st_ino) in events[renamed:]
