"""Elements are read from where the header says, and a file that changes under way is an error and no weights."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quant.checkpoint.file_io import read_chunks
from quant.checkpoint.folder import SINGLE, Checkpoint, open_checkpoint
from quant.checkpoint.reading import Inputs
from quant.errors import QuantError
from tests.unit.checkpoint.files import layer_tensors


@pytest.mark.parametrize("elements", [1, 7, 130, 10**6])
def test_chunks_are_the_tensor_in_order(checkpoint: Checkpoint, elements: int) -> None:
    with Inputs(checkpoint) as inputs:
        for name, expected in layer_tensors().items():
            chunks = [chunk.clone() for chunk in inputs.chunks(name, elements)]
            assert {len(chunk) for chunk in chunks[:-1]} <= {elements}
            assert torch.equal(torch.cat(chunks), expected.view(-1))


def test_chunks_share_their_memory(checkpoint: Checkpoint) -> None:
    """What keeps a conversion's memory at its buffers."""
    with Inputs(checkpoint) as inputs:
        assert len({chunk.data_ptr() for chunk in inputs.chunks("first.weight", 100)}) == 1


def test_a_part_is_read_by_itself(checkpoint: Checkpoint) -> None:
    expected = layer_tensors()["first.weight"].view(-1)
    with Inputs(checkpoint) as inputs:
        assert torch.equal(inputs.read("first.weight", 5, 9), expected[5:14])
        assert torch.equal(inputs.read("first.weight", 5), expected[5:])
        assert torch.equal(inputs.read("first.weight"), expected)
        assert inputs.read("first.weight", 5, 0).shape == (0,)


def test_tensors_without_elements_and_without_dimensions(tmp_path: Path) -> None:
    save_file({"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}, tmp_path / SINGLE)
    with Inputs(open_checkpoint(tmp_path)) as inputs:
        assert list(inputs.chunks("empty")) == []
        assert [chunk.tolist() for chunk in inputs.chunks("scalar")] == [[2.5]]


def test_short_reads_are_continued(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may return less than was asked for."""
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, buffers, offset: preadv(handle, [buffers[0][:3]], offset))
    with Inputs(checkpoint) as inputs:
        assert torch.equal(inputs.read("first.bias"), layer_tensors()["first.bias"])


def test_a_file_that_becomes_shorter_is_refused(checkpoint: Checkpoint) -> None:
    header = next(iter(checkpoint.files.values()))
    with Inputs(checkpoint) as inputs:
        os.truncate(header.path, header.size - 1)
        with pytest.raises(
            QuantError, match=r"tensor first\.weight ends early: the file was cut short while it was read"
        ):
            inputs.read("first.weight")


def test_a_disk_that_fails_is_told_with_file_and_tensor(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with Inputs(checkpoint) as inputs:
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(QuantError, match=r"safetensors: tensor first\.bias cannot be read \(Input/output error\)"):
            inputs.read("first.bias")


def test_a_file_that_was_replaced_since_its_header_was_read_is_refused(checkpoint: Checkpoint) -> None:
    header = next(iter(checkpoint.files.values()))
    os.utime(header.path, ns=(header.modified + 1, header.modified + 1))
    with pytest.raises(QuantError, match="has changed since it was opened"), Inputs(checkpoint):
        pass
    header.path.unlink()
    with pytest.raises(QuantError, match=r"cannot be read \(No such file"), Inputs(checkpoint):
        pass


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_the_files_are_closed_at_the_end(checkpoint: Checkpoint) -> None:
    before = os.listdir("/proc/self/fd")
    with Inputs(checkpoint):
        assert len(os.listdir("/proc/self/fd")) == len(before) + 2
    assert os.listdir("/proc/self/fd") == before


def test_chunks_end_where_a_file_ends_early(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(range(10)))
    with (tmp_path / "short").open("rb") as file:
        assert b"".join(map(bytes, read_chunks(file.fileno(), 4, 100))) == bytes(range(4, 10))
