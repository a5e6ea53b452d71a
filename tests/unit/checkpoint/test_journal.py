"""What is left of a journal is believed up to the first line that is none, and written on from there."""

from pathlib import Path

import pytest

from quant.checkpoint.folder import Checkpoint
from quant.checkpoint.plan import Plan
from quant.checkpoint.run import run
from quant.errors import QuantError
from tests.unit.checkpoint.files import digests
from tests.unit.checkpoint.interrupted import FINISHED, counted, failing


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


@pytest.mark.parametrize("rest", [b"", b"\0" * 1000], ids=["cut short", "longer than the next line"])
def test_what_follows_a_line_that_is_none_is_kept_the_next_time(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path, rest: bytes
) -> None:
    """The rest of that line is removed, so that the next one is a line of its own."""
    journal = partial / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20] + rest)
    with pytest.raises(QuantError, match="interrupted"):
        run(failing(interrupted), checkpoint, out)
    assert journal.read_bytes() == whole
    assert run(interrupted, checkpoint, out).kept == sum(len(job.outputs) for job in interrupted.jobs[:FINISHED])


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


def test_a_restart_begins_a_journal_without_the_old_lines(
    interrupted: Plan, checkpoint: Checkpoint, out: Path, partial: Path
) -> None:
    lines = (partial / "journal.jsonl").read_bytes().splitlines()
    with pytest.raises(QuantError, match="interrupted"):
        run(failing(interrupted, 1), checkpoint, out, restart=True)
    assert (partial / "journal.jsonl").read_bytes().splitlines() == lines[:2]
