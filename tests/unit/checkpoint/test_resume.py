"""An interrupted run is taken up where it stopped: what is finished and intact is kept, all else is done again."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from quant.checkpoint.folder import INDEX, Checkpoint, open_checkpoint
from quant.checkpoint.manifest import MANIFEST
from quant.checkpoint.plan import Plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import NF4, W8A16
from tests.checkpoints import flip
from tests.unit.checkpoint.files import SHARDS, digests, layer_tensors, plan_of, write_sharded
from tests.unit.checkpoint.interrupted import FINISHED, counted, failing


def test_a_run_makes_the_files_and_nothing_else(uninterrupted: dict[str, str], tmp_path: Path) -> None:
    assert set(uninterrupted) == {*SHARDS, INDEX, "config.json", "tokenizer.json", MANIFEST}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other"]


def test_what_is_finished_is_not_done_again(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, uninterrupted: dict[str, str]
) -> None:
    plan, done = counted(interrupted)
    outcome = run(plan, checkpoint, out)
    assert done == [job.outputs[0].name for job in plan.jobs[FINISHED:]]
    assert outcome.kept == sum(len(job.outputs) for job in plan.jobs[:FINISHED])
    assert outcome.tensors == sum(len(job.outputs) for job in plan.jobs)
    assert digests(out) == uninterrupted
    assert not partial.exists()


def test_a_finished_tensor_that_was_damaged_is_done_again(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, uninterrupted: dict[str, str]
) -> None:
    first = interrupted.jobs[0].outputs[-1]
    path = partial / "files" / first.file
    content = path.read_bytes()
    # The bytes of the first job's tensors are the only ones that are not zero, together with the second job's.
    start = int.from_bytes(content[:8], "little") + 8
    flip(path, next(index for index in range(start, len(content)) if content[index]))
    plan, done = counted(interrupted)
    run(plan, checkpoint, out)
    assert len(done) == len(plan.jobs) - FINISHED + 1
    assert digests(out) == uninterrupted


def test_a_file_that_has_grown_is_cut_to_its_size(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, uninterrupted: dict[str, str]
) -> None:
    with (partial / "files" / SHARDS[0]).open("ab") as file:
        file.write(b"stray")
    run(interrupted, checkpoint, out)
    assert digests(out) == uninterrupted


def test_another_scheme_is_refused_and_restart_discards(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path
) -> None:
    plan = plan_of(checkpoint, W8A16())
    before = digests(partial)
    with pytest.raises(
        QuantError, match=r"out\.partial is left .* other scheme, output tensors: repeat .*or pass --restart"
    ):
        run(plan, checkpoint, out)
    assert digests(partial) == before
    assert run(plan, checkpoint, out, restart=True).kept == 0
    assert sorted(out.parent.iterdir()) == [checkpoint.folder, out]


def test_another_dtype_is_refused(interrupted: Plan, checkpoint: Checkpoint, out: Path) -> None:
    with pytest.raises(QuantError, match="of other dtype, output tensors"):
        run(plan_of(checkpoint, NF4(), torch.float32), checkpoint, out)


def test_inputs_that_were_saved_anew_are_refused(interrupted: Plan, checkpoint: Checkpoint, out: Path) -> None:
    """The same shapes and names, so the same sizes and headers, but other weights."""
    tensors = {name: tensor + 1 for name, tensor in layer_tensors().items()}
    header = checkpoint.files[SHARDS[0]]
    write_sharded(checkpoint.folder, tensors)
    os.utime(header.path, ns=(header.modified + 1, header.modified + 1))
    again = open_checkpoint(checkpoint.folder)
    assert again.files[SHARDS[0]].digest == header.digest
    with pytest.raises(QuantError, match=r"of other input files: repeat"):
        run(plan_of(again, NF4()), again, out)


def test_another_version_is_refused(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.checkpoint.run.__version__", "9.9")
    with pytest.raises(QuantError, match="of other version: repeat"):
        run(interrupted, checkpoint, out)


def test_inputs_that_change_under_way_are_refused(checkpoint: Checkpoint, out: Path) -> None:
    plan = plan_of(checkpoint, NF4())
    path = checkpoint.files[SHARDS[1]].path

    def touching(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        os.utime(path, ns=(1, 1))
        yield from plan.jobs[0].produce(inputs)

    jobs = (replace(plan.jobs[0], produce=touching), *plan.jobs[1:])
    with pytest.raises(QuantError, match=rf"{SHARDS[1]} has changed since it was opened"):
        run(replace(plan, jobs=jobs), checkpoint, out)
    assert not out.exists()


def test_a_failure_before_anything_is_finished_leaves_nothing(
    checkpoint: Checkpoint, out: Path, one_worker: None
) -> None:
    plan = plan_of(checkpoint, NF4())
    with pytest.raises(QuantError, match="interrupted"):
        run(failing(plan, 0), checkpoint, out)
    assert list(out.parent.iterdir()) == [checkpoint.folder]


def test_files_that_only_the_interrupted_run_copied_do_not_stay(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, uninterrupted: dict[str, str]
) -> None:
    (partial / "files" / "vocabulary.txt").touch()
    run(interrupted, checkpoint, out)
    assert digests(out) == uninterrupted


def test_progress_ends_at_its_total(interrupted: Plan, checkpoint: Checkpoint, out: Path) -> None:
    calls: list[tuple[int, int]] = []
    outcome = run(interrupted, checkpoint, out, watch=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {total for _, total in calls} == {calls[-1][0]}
    weights = json.loads((out / INDEX).read_text(encoding="utf-8"))["metadata"]["total_size"]
    assert outcome.nbytes == sum((out / shard).stat().st_size for shard in SHARDS)
    assert calls[-1][0] == weights + outcome.nbytes
