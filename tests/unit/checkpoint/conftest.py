"""A small checkpoint in two shards, where it is converted to, and a conversion that was interrupted."""

from pathlib import Path

import pytest

from quant.checkpoint.folder import Checkpoint, open_checkpoint
from quant.checkpoint.plan import Plan
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import NF4
from tests.unit.checkpoint.files import digests, layer_tensors, plan_of, write_sharded
from tests.unit.checkpoint.interrupted import FINISHED, failing


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(write_sharded(tmp_path / "model", layer_tensors()))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def partial(out: Path) -> Path:
    return out.with_name("out.partial")


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs one after the other, so that it is known which are finished."""
    monkeypatch.setattr("quant.checkpoint.run.WORKERS", 1)


@pytest.fixture
def interrupted(checkpoint: Checkpoint, out: Path, partial: Path, one_worker: None) -> Plan:
    """The plan of a run that stopped after two jobs, whose partial folder is there."""
    plan = plan_of(checkpoint, NF4())
    with pytest.raises(QuantError, match="interrupted"):
        run(failing(plan), checkpoint, out)
    assert not out.exists()
    assert len((partial / "journal.jsonl").read_bytes().splitlines()) == 1 + FINISHED
    return plan


@pytest.fixture
def uninterrupted(checkpoint: Checkpoint, tmp_path: Path) -> dict[str, str]:
    """What a run makes that nothing interrupts."""
    run(plan_of(checkpoint, NF4()), checkpoint, tmp_path / "other")
    return digests(tmp_path / "other")
