"""A full or failing disk is one line that names the file, before the work where the file system can tell, and leaves
nothing in the place of OUT.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from quant.checkpoint.folder import Checkpoint, open_checkpoint
from quant.checkpoint.partial import Partial
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import NF4
from tests.unit.checkpoint.files import SHARDS, digests, layer_tensors, plan_of, write_sharded


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(write_sharded(tmp_path / "model", layer_tensors()))


def full(*_: object) -> object:
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


@pytest.mark.parametrize("function", ["pwrite", "fdatasync"])
def test_a_disk_that_is_full_under_way_is_told_with_the_tensor_and_can_be_gone_on_with(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Some file systems, networks above all, tell it only when a file is written or brought to the disk."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    monkeypatch.setattr("quant.checkpoint.run.WORKERS", 1)
    calls = 4 if function == "pwrite" else 1  # two headers and two tensors; one job
    message = r"files/model-0000.-of-00002\.safetensors: tensor \w+\.\w+ cannot be written \(No space left"
    with monkeypatch.context() as patch:
        patch.setattr(os, function, after(calls, getattr(os, function)))
        with pytest.raises(QuantError, match=message):
            run(plan_of(checkpoint, NF4()), checkpoint, out)
    assert not out.exists()
    assert partial.is_dir()
    assert run(plan_of(checkpoint, NF4()), checkpoint, out).kept


def test_a_disk_that_is_full_at_the_end_keeps_all_tensors(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(checkpoint, NF4())
    message = r"out\.partial cannot be completed \(.*No space left on device\): make room, then run the same command"
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(QuantError, match=message):
            run(plan, checkpoint, tmp_path / "out")
    assert run(plan, checkpoint, tmp_path / "out").kept == sum(len(job.outputs) for job in plan.jobs)


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
