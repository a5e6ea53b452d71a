"""What a power cut leaves can be believed: the journal enters what is on the disk, and OUT is renamed when all is.

A test cannot cut the power; it can see in which order the system is asked for what.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quant.checkpoint.folder import open_checkpoint
from quant.checkpoint.partial import Partial
from quant.checkpoint.run import run
from quant.schemes import NF4
from tests.unit.checkpoint.files import layer_tensors, plan_of, write_sharded

Events = list[tuple[str, int]]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Events:
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
    write_line = Partial._write_line

    def watched_line(self: Partial, entry: Any) -> None:
        if "finished" in entry:
            seen.extend(("entered", (self.files / file).stat().st_ino) for file, _, _ in entry["finished"])
        write_line(self, entry)

    monkeypatch.setattr(Partial, "_write_line", watched_line)
    monkeypatch.setattr("quant.checkpoint.run.WORKERS", 1)
    checkpoint = open_checkpoint(write_sharded(tmp_path / "model", layer_tensors()))
    run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "out")
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
    events: Events, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    renamed = next(index for index, (call, _) in enumerate(events) if call == "rename")
    last_write = max(index for index, (call, _) in enumerate(events) if call == "pwrite")
    synced = {inode for call, inode in events[last_write:renamed] if call == "fsync"}
    assert synced == {path.stat().st_ino for path in (*out.iterdir(), out)}
    assert ("fsync", tmp_path.stat().st_ino) in events[renamed:]
