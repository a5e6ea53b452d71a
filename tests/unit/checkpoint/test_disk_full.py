"""A full or failing disk is one line that names the file, before the work where the file system can tell, and leaves
nothing in the place of OUT.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from quant.checkpoint.folder import Checkpoint
from quant.checkpoint.partial import JOURNAL, Partial
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import NF4
from tests.unit.checkpoint.files import SHARDS, digests, plan_of
from tests.unit.checkpoint.interrupted import FINISHED, counted


def full(*_: object, **__: object) -> object:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def after(calls: int, function: Callable[..., object]) -> Callable[..., object]:
    """`function` for so many calls, then the disk is full."""
    count = 0

    def limited(*arguments: object) -> object:
        nonlocal count
        count += 1
        return function(*arguments) if count <= calls else full()

    return limited


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space cannot be asked for here")
def test_a_full_disk_is_told_before_anything_is_computed(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second file does not fit any more; the first one, and with it the space that it took, goes again."""
    monkeypatch.setattr(os, "posix_fallocate", after(1, os.posix_fallocate))
    monkeypatch.setattr("quant.checkpoint.run._Jobs.run", lambda *_: pytest.fail("computed something"))
    with pytest.raises(QuantError, match=rf"{SHARDS[1]}, of \d+ bytes, cannot be written \(No space left.*make room"):
        run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [checkpoint.folder]


def test_space_is_given_by_the_file_system_beforehand(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fallocate(handle: int, start: int, size: int) -> None:
        asked.append(size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate, raising=False)
    outcome = run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "out")
    assert sum(asked) == outcome.nbytes


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_give_space_beforehand_is_written_to(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "given")
    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "given")


def test_where_space_cannot_be_asked_for_the_files_are_the_same(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, which has no posix_fallocate, nor posix_fadvise."""
    run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "given")
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "given")


@pytest.mark.parametrize("function", ["pwrite", "fdatasync"])
def test_a_disk_that_is_full_under_way_is_told_with_the_tensor_and_can_be_gone_on_with(
    checkpoint: Checkpoint,
    out: Path,
    partial: Path,
    one_worker: None,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
) -> None:
    """Some file systems, networks above all, tell it only when a file is written or brought to the disk."""
    calls = 5 if function == "pwrite" else 1  # the journal's first line, two headers, a tensor and its line; one job
    message = r"files/model-0000.-of-00002\.safetensors: tensor \w+\.\w+ cannot be written \(No space left"
    with monkeypatch.context() as patch:
        patch.setattr(os, function, after(calls, getattr(os, function)))
        with pytest.raises(QuantError, match=message):
            run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert not out.exists()
    assert partial.is_dir()
    assert run(plan_of(checkpoint, NF4()), checkpoint, out).kept == 1


def full_in_a_line(journal: Path, lines: int) -> Callable[[int, memoryview, int], int]:
    """`os.pwrite` on a disk that takes so many lines of the journal, and then half of one."""
    pwrite, count = os.pwrite, 0

    def limited(handle: int, data: memoryview, position: int) -> int:
        nonlocal count
        if os.fstat(handle).st_ino != journal.stat().st_ino:
            return pwrite(handle, data, position)
        count += 1
        if count > lines + 1:
            full()
        return pwrite(handle, data[: len(data) // 2] if count == lines + 1 else data, position)

    return limited


JOURNAL_IS_FULL = r"out\.partial/journal\.jsonl cannot be written \(No space left on device\): make room"


@pytest.mark.parametrize("lines", [0, 1], ids=["at its first line", "at the first job's"])
def test_a_journal_that_cannot_be_written_before_anything_is_entered_leaves_nothing(
    checkpoint: Checkpoint, out: Path, partial: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """What is not in the journal is not finished, though its bytes are on the disk."""
    monkeypatch.setattr(os, "pwrite", full_in_a_line(partial / JOURNAL, lines))
    with pytest.raises(QuantError, match=JOURNAL_IS_FULL):
        run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert list(out.parent.iterdir()) == [checkpoint.folder]


def test_a_disk_that_is_full_in_the_middle_of_a_line_keeps_the_lines_before(
    checkpoint: Checkpoint, out: Path, partial: Path, one_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is buffered that closing would write, or fail to write, once more."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full_in_a_line(partial / JOURNAL, 1 + FINISHED))
        with pytest.raises(QuantError, match=JOURNAL_IS_FULL):
            run(plan_of(checkpoint, NF4()), checkpoint, out)
    lines = (partial / JOURNAL).read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + FINISHED + 1
    assert not lines[-1].endswith(b"\n")
    plan, done = counted(plan_of(checkpoint, NF4()))
    run(plan, checkpoint, out)
    assert len(done) == len(plan.jobs) - FINISHED


@pytest.mark.parametrize(
    ("function", "file"), [("shutil.copyfile", "tokenizer.json"), ("pathlib.Path.write_text", "config.json")]
)
def test_a_disk_that_is_full_at_a_small_file_keeps_all_tensors(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch, function: str, file: str
) -> None:
    plan = plan_of(checkpoint, NF4())
    message = rf"out\.partial/files/{file} cannot be written \(No space left on device\): make room, then run the same"
    with monkeypatch.context() as patch:
        patch.setattr(function, full)
        with pytest.raises(QuantError, match=message):
            run(plan, checkpoint, out)
    assert run(plan, checkpoint, out).kept == sum(len(job.outputs) for job in plan.jobs)


@pytest.mark.parametrize("step", ["os.pwrite", "shutil.copyfile", "os.fsync"])
def test_only_a_full_disk_is_told_to_make_room(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(step, fail)
    with pytest.raises(QuantError, match=r"\(Input/output error\): check the disk and the permissions, then run"):
        run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert not out.exists()


def test_bytes_that_are_not_what_was_written_are_told(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk or a memory that flips bits: what was computed is held to what is read back."""
    write = Partial.write

    def flipping(self: Partial, tensor: object, position: int, data: memoryview) -> None:
        changed = bytearray(data)
        changed[0] ^= 1
        write(self, tensor, position, memoryview(changed))  # type: ignore[arg-type]

    monkeypatch.setattr(Partial, "write", flipping)
    with pytest.raises(QuantError, match=r"safetensors: tensor .* is not what was written: the disk or the memory"):
        run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 300, "missing/out"])
def test_an_out_that_cannot_be_made_is_refused(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    with pytest.raises(QuantError, match=r"cannot be made|does not exist or cannot be written to"):
        run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / name)
    assert list(tmp_path.iterdir()) == [checkpoint.folder]
