"""An interrupted run is taken up where it stopped: what is finished and intact is kept, all else is done again."""

import fcntl
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
from quant.checkpoint.partial import Partial
from quant.checkpoint.plan import Job, Plan
from quant.checkpoint.reading import Inputs
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import NF4, W8A16
from tests.unit.checkpoint.files import SHARDS, digests, layer_tensors, plan_of, write_sharded

FINISHED = 2
"""Jobs that an interrupted run of these tests has done, of 4."""


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


def failing(plan: Plan) -> Plan:
    """The same, but the third job fails."""

    def fail(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        raise QuantError("interrupted")

    jobs = list(plan.jobs)
    jobs[FINISHED] = replace(jobs[FINISHED], produce=fail)
    return replace(plan, jobs=tuple(jobs))


def counted(plan: Plan) -> tuple[Plan, list[str]]:
    """The same, and the names of the first output of every job that is done from now on."""
    done: list[str] = []

    def watched(job: Job) -> Job:
        def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
            done.append(job.outputs[0].name)
            yield from job.produce(inputs)

        return replace(job, produce=produce)

    return replace(plan, jobs=tuple(map(watched, plan.jobs))), done


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
    content = bytearray(path.read_bytes())
    # The bytes of the first job's tensors are the only ones that are not zero, together with the second job's.
    start = int.from_bytes(content[:8], "little") + 8
    position = next(index for index in range(start, len(content)) if content[index])
    content[position] ^= 1
    path.write_bytes(content)
    plan, done = counted(interrupted)
    run(plan, checkpoint, out)
    assert len(done) == len(plan.jobs) - FINISHED + 1
    assert digests(out) == uninterrupted


@pytest.mark.parametrize("cut", [1, 20, 10**6], ids=["its last byte", "part of the last line", "everything"])
def test_a_journal_that_was_cut_short_loses_what_it_lacks(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, cut: int, uninterrupted: dict[str, str]
) -> None:
    journal = partial / "journal.jsonl"
    content = journal.read_bytes()
    journal.write_bytes(content[: max(0, len(content) - cut)])
    plan, done = counted(interrupted)
    run(plan, checkpoint, out)
    assert len(done) == (len(plan.jobs) if cut == 10**6 else len(plan.jobs) - FINISHED + 1)
    assert digests(out) == uninterrupted


def test_what_follows_a_line_that_was_cut_short_is_kept_the_next_time(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path
) -> None:
    """The rest of that line is removed, so that the next one is a line of its own."""
    journal = partial / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    with pytest.raises(QuantError, match="interrupted"):
        run(failing(interrupted), checkpoint, out)
    assert journal.read_bytes() == whole
    assert run(interrupted, checkpoint, out).kept == sum(len(job.outputs) for job in interrupted.jobs[:FINISHED])


def test_a_file_that_has_grown_is_cut_to_its_size(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, uninterrupted: dict[str, str]
) -> None:
    with (partial / "files" / SHARDS[0]).open("ab") as file:
        file.write(b"stray")
    run(interrupted, checkpoint, out)
    assert digests(out) == uninterrupted


@pytest.mark.parametrize(
    "line", [b"\0" * 40 + b"\n", b"\n", b"[]\n", b"{}\n"], ids=["zeros", "empty", "a list", "another table"]
)
def test_a_journal_line_that_is_none_ends_the_journal(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, line: bytes, uninterrupted: dict[str, str]
) -> None:
    """As a power cut may leave it."""
    journal = partial / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-1], line, lines[-1]]))
    plan, done = counted(interrupted)
    run(plan, checkpoint, out)
    assert len(done) == len(plan.jobs) - FINISHED + 1
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


def test_two_runs_into_one_folder_exclude_each_other(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path
) -> None:
    before = digests(partial)
    with (partial / "journal.jsonl").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for restart in (False, True):
            with pytest.raises(QuantError, match=r"out\.partial is being written by another run: wait"):
                run(interrupted, checkpoint, out, restart=restart)
        assert digests(partial) == before
    assert run(interrupted, checkpoint, out).kept


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


def test_a_failure_before_anything_is_finished_leaves_nothing(checkpoint: Checkpoint, out: Path, partial: Path) -> None:
    plan = plan_of(checkpoint, NF4())
    fail = failing(plan).jobs[FINISHED].produce
    with pytest.raises(QuantError, match="interrupted"):
        run(replace(plan, jobs=(replace(plan.jobs[0], produce=fail),)), checkpoint, out)
    assert list(out.parent.iterdir()) == [checkpoint.folder]


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
    lock = Partial._lock

    def make_first(self: Partial) -> None:
        out.mkdir()
        (out / "theirs").touch()
        lock(self)

    monkeypatch.setattr(Partial, "_lock", make_first)
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
