"""OUT appears where nothing is, and the partial folder is written by one run at a time; what is there stays."""

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from quant.checkpoint.folder import Checkpoint
from quant.checkpoint.journal import Journal
from quant.checkpoint.plan import Plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import NF4
from tests.unit.checkpoint.files import digests, plan_of
from tests.unit.checkpoint.interrupted import counted


@pytest.mark.parametrize("lock", [fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["exclusive", "shared"])
def test_two_runs_into_one_folder_exclude_each_other(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, lock: int
) -> None:
    """A shared lock keeps out those that ask for an exclusive one, and nobody else."""
    before = digests(partial)
    with (partial / "journal.jsonl").open("rb") as other:
        fcntl.flock(other, lock)
        for restart in (False, True):
            with pytest.raises(QuantError, match=r"out\.partial is being written by another run: wait"):
                run(interrupted, checkpoint, out, restart=restart)
        assert digests(partial) == before
    assert run(interrupted, checkpoint, out).kept


def test_a_file_system_without_locks_is_told(
    checkpoint: Checkpoint, out: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(QuantError, match=r"journal\.jsonl cannot be locked \(No locks available\): name an OUT on"):
        run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert not out.exists()


def test_a_run_that_ended_while_another_waited_for_its_lock_is_not_written_to(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal was opened, and removed by the one that finished, before it was locked."""
    flock = fcntl.flock

    def finish_first(handle: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        run(interrupted, checkpoint, out)
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with pytest.raises(QuantError, match="was finished by another run this moment: look at"):
        run(interrupted, checkpoint, out)
    assert out.is_dir()
    assert not partial.exists()


def test_a_folder_of_that_name_that_is_none_of_ours_is_left_alone(
    checkpoint: Checkpoint, out: Path, partial: Path
) -> None:
    partial.mkdir()
    (partial / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(QuantError, match=r"out\.partial is in the way and was not made by quant"):
        run(plan_of(checkpoint, NF4()), checkpoint, out, restart=True)
    assert [path.name for path in partial.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_may_be_there(checkpoint: Checkpoint, out: Path, uninterrupted: dict[str, str]) -> None:
    out.mkdir()
    run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert digests(out) == uninterrupted


def test_a_mount_point_is_refused(checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an empty folder like any, but no folder can be renamed to it: that would be told after all the work."""
    out.mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: path == out)
    with pytest.raises(QuantError, match=r"out is a mount point, .*: name a folder in it"):
        run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert sorted(out.parent.iterdir()) == [checkpoint.folder, out]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_never_replaced(checkpoint: Checkpoint, out: Path, kind: str) -> None:
    if kind == "file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.mkdir()
        (out / "mine").touch()
    with pytest.raises(QuantError, match="out exists: name a folder that does not, or remove it"):
        run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert sorted(out.parent.iterdir()) == [checkpoint.folder, out]


def test_a_folder_that_another_run_made_while_this_one_waited_is_seen_before_the_work(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Journal.open

    def make_first(self: Journal) -> None:
        out.mkdir()
        (out / "theirs").touch()
        lock(self)

    monkeypatch.setattr(Journal, "open", make_first)
    plan, done = counted(interrupted)
    with pytest.raises(QuantError, match="out exists"):
        run(plan, checkpoint, out)
    assert done == []


def test_a_folder_that_appears_under_way_is_not_replaced(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, uninterrupted: dict[str, str]
) -> None:
    def intruding(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        out.mkdir()
        (out / "mine").touch()
        yield from interrupted.jobs[-1].produce(inputs)

    jobs = (*interrupted.jobs[:-1], replace(interrupted.jobs[-1], produce=intruding))
    with pytest.raises(QuantError, match=r"out has appeared meanwhile .*move it away and run the same command again"):
        run(replace(interrupted, jobs=jobs), checkpoint, out)
    assert [path.name for path in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    assert run(interrupted, checkpoint, out).kept == sum(len(job.outputs) for job in interrupted.jobs)
    assert digests(out) == uninterrupted


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES], ids=errno.errorcode.__getitem__)
def test_a_folder_that_cannot_be_renamed_for_another_reason_is_told_so(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(
            QuantError, match=rf"files cannot be renamed to .*out \({os.strerror(code)}\): check the disk"
        ):
            run(interrupted, checkpoint, out)
    assert run(interrupted, checkpoint, out).kept == sum(len(job.outputs) for job in interrupted.jobs)


def test_a_folder_whose_name_cannot_be_brought_to_the_disk_is_there_all_the_same(
    checkpoint: Checkpoint, out: Path, partial: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, str]
) -> None:
    """It is complete; only a power cut could still take its name back, and then the partial folder is gone as well."""
    fsync, parent = os.fsync, out.parent.stat().st_ino

    def failing_for_the_parent(handle: int) -> None:
        if os.fstat(handle).st_ino == parent:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing_for_the_parent)
    assert run(plan_of(checkpoint, NF4()), checkpoint, out).out == out
    assert digests(out) == uninterrupted
    assert not partial.exists()
