"""What a job yields is written only where it is what the plan says: a conversion with a slip never makes a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quant.checkpoint.folder import SINGLE, Checkpoint, open_checkpoint
from quant.checkpoint.plan import Job, OutputTensor, Plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.run import run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    (tmp_path / "model").mkdir()
    save_file({"a": torch.arange(6.0), "b": torch.arange(4.0)}, tmp_path / "model" / SINGLE)
    return open_checkpoint(tmp_path / "model")


def plan(*yielded: tuple[str, Tensor]) -> Plan:
    """One job that yields these for the outputs x float32 [2, 3] and y int8 [4]."""
    outputs = (OutputTensor(SINGLE, "x", torch.float32, (2, 3)), OutputTensor(SINGLE, "y", torch.int8, (4,)))

    def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        yield from yielded

    return Plan((Job(outputs, produce),), sharded=False, settings={})


def test_chunks_of_several_outputs_may_alternate_and_have_any_shape(checkpoint: Checkpoint, tmp_path: Path) -> None:
    chunks = (
        ("x", torch.arange(4.0).view(2, 2)),
        ("y", torch.arange(3, dtype=torch.int8)),
        ("x", torch.arange(8.0)[4:8:2]),
        ("y", torch.tensor(3, dtype=torch.int8)),
        ("y", torch.zeros(0, dtype=torch.int8)),
    )
    run(plan(*chunks), checkpoint, tmp_path / "out")
    made = load_file(tmp_path / "out" / SINGLE)
    assert torch.equal(made["x"], torch.tensor([[0.0, 1, 2], [3, 4, 6]]))
    assert torch.equal(made["y"], torch.arange(4, dtype=torch.int8))


def test_a_job_reads_any_tensor(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        yield "sum", inputs.read("a")[:4] + inputs.read("b")

    job = Job((OutputTensor("other.safetensors", "sum", torch.float32, (4,)),), produce)
    run(Plan((job,), sharded=True, settings={}), checkpoint, tmp_path / "out")
    assert open_checkpoint(tmp_path / "out").tensors["sum"].shape == (4,)
    assert torch.equal(load_file(tmp_path / "out" / "other.safetensors")["sum"], 2 * torch.arange(4.0))


def test_short_writes_are_continued(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system, or a signal, may leave a write unfinished."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, position: pwrite(handle, data[:3], position))
    run(plan(("x", torch.arange(6.0)), Y), checkpoint, tmp_path / "out")
    assert load_file(tmp_path / "out" / SINGLE)["x"].tolist() == [[0.0, 1, 2], [3, 4, 5]]


Y = ("y", torch.zeros(4, dtype=torch.int8))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ((("x", torch.zeros(6)),), "made 0 bytes of .*'y'"),
        ((("x", torch.zeros(5)), Y), "made 20 bytes of .*'x'"),
        ((("x", torch.zeros(7)), Y), "made more of .*'x'"),
        ((("x", torch.zeros(6)), ("x", torch.zeros(1)), Y), "made more of .*'x'"),
        ((("x", torch.zeros(6, dtype=torch.int32)), Y), "another dtype: torch.int32"),
    ],
    ids=["an output missing", "too short", "too long", "a chunk too many", "another dtype"],
)
def test_what_is_not_planned_is_no_tensor(
    checkpoint: Checkpoint, tmp_path: Path, chunks: tuple[tuple[str, Tensor], ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        run(plan(*chunks), checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [checkpoint.folder]
