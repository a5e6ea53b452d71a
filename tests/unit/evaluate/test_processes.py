"""Processes of one run: what is whose, who is told what, and how all end when one fails. Threads stand in for them;
real ones are in `tests/unit/test_launched.py`.
"""

import atexit
import os
import sys
from types import SimpleNamespace

import pytest

from quant.errors import QuantError
from quant.evaluate.processes import ALONE, LAUNCHERS, SHARDED, Processes, check_whole_models, joined
from tests.unit.evaluate.meeting import run_together


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_follow_each_other_and_make_up_the_whole(size: int) -> None:
    for count in range(20):
        shares = [Processes(rank, size).share(count) for rank in range(size)]
        assert [number for share in shares for number in share] == list(range(count))
        lengths = [len(share) for share in shares]
        assert max(lengths) - min(lengths) <= 1


def test_alone_nothing_is_exchanged() -> None:
    """torch.distributed would fail: no process group was made."""
    assert ALONE.main
    assert ALONE.share(5) == range(5)
    assert ALONE.together(lambda: 3) == 3
    assert ALONE.gather(lambda: 3) == [3]
    assert ALONE.from_main(lambda: 3) == 3
    assert ALONE.end(7) == 7
    with pytest.raises(ValueError, match="as it is"):
        ALONE.together(lambda: int("as it is"))


def test_results_come_in_order_of_rank_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ["of 0", "of 1", "of 2"]
    assert run_together(monkeypatch, 3, lambda p: p.gather(lambda: f"of {p.rank}")) == [expected] * 3


def test_work_together_is_returned_where_it_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_together(monkeypatch, 3, lambda p: p.together(lambda: f"of {p.rank}")) == ["of 0", "of 1", "of 2"]


def test_the_main_process_alone_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def work(processes: Processes) -> str:
        def note() -> str:
            done.append(processes.rank)
            return "timed"

        return processes.from_main(note)

    assert run_together(monkeypatch, 3, work) == ["timed"] * 3
    assert done == [0]


def failing(processes: Processes, errors: dict[int, Exception]) -> str:
    """Work that raises in the processes in `errors`."""

    def work() -> str:
        if processes.rank in errors:
            raise errors[processes.rank]
        return "done"

    processes.together(work)
    return "went on"


def test_an_error_in_one_process_is_every_one_s(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run_together(monkeypatch, 3, lambda p: failing(p, {1: QuantError("window 9: NaN")}))
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [(QuantError, "window 9: NaN")] * 3


def test_of_several_errors_all_raise_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a single process would, which comes to the first window first."""
    errors: dict[int, Exception] = {2: QuantError("window 9"), 1: QuantError("window 5")}
    outcomes = run_together(monkeypatch, 3, lambda p: failing(p, errors))
    assert [(type(outcome), str(outcome)) for outcome in outcomes] == [(QuantError, "window 5")] * 3


def test_an_error_of_another_kind_ends_all_and_is_not_taken_for_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison goes on after a QuantError about one scheme; this process cannot."""
    errors: dict[int, Exception] = {0: QuantError("window 1"), 1: MemoryError("full")}
    first, second, third = run_together(monkeypatch, 3, lambda p: failing(p, errors))
    assert (type(second), str(second)) == (MemoryError, "full")
    for other in (first, third):
        assert (type(other), str(other)) == (RuntimeError, "process 1 of 3 failed: MemoryError: full")


def test_a_process_that_is_at_another_step_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be given what others mean by something else."""
    first, second = run_together(monkeypatch, 2, lambda p: p.gather(lambda: 1) if p.main else p._exchange("end", 0))
    assert str(first) == "processes are out of step: 1 of 2 is at 'end', 0 at 'outcomes'"
    assert str(second) == "processes are out of step: 0 of 2 is at 'outcomes', 1 at 'end'"


def test_all_end_with_the_highest_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_together(monkeypatch, 3, lambda p: p.end(2 if p.main else 0)) == [2, 2, 2]
    assert run_together(monkeypatch, 3, lambda p: p.end(0)) == [0, 0, 0]


def test_where_one_has_died_the_others_end_with_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_together(monkeypatch, 3, lambda p: p.end(p.rank) if p.rank else "died") == ["died", 1, 2]


def test_nobody_waits_for_one_that_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    _, other = run_together(monkeypatch, 2, lambda p: "died" if p.main else p.gather(lambda: 1))
    assert (type(other), str(other)) == (RuntimeError, "Connection closed by peer")


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", "cpu"), ("cuda", "cuda:3"), ("cuda:0", None), ("auto", None), ("mps", None)]
)
def test_each_process_has_the_gpu_of_its_place_on_the_machine(
    device: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    processes = Processes(rank=7, size=8, local_rank=3, local_size=4)
    if expected is None:
        remedy = "start one process" if device == "auto" else "use --device cuda or cpu"
        with pytest.raises(QuantError, match=f"--device {device} is for one process, and there are 8: {remedy}"):
            processes.device(device)
    else:
        assert processes.device(device) == expected
    assert ALONE.device(device) == device


@pytest.mark.parametrize("visible", ["0,1", ""])
def test_processes_that_see_all_gpus_have_those_of_their_places(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Processes(rank=1, size=2, local_rank=1, local_size=2).device("cuda") == "cuda:1"


@pytest.mark.parametrize(
    ("other", "shared"), [(("here", "GPU-2e"), False), (("there", "GPU-1f"), False), (("here", "GPU-1f"), True)]
)
def test_a_process_that_sees_one_gpu_has_that_if_no_other_sees_it(
    other: tuple[str, str], shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same number on another machine is another GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1f")
    monkeypatch.setattr("platform.node", lambda: "here")
    told: list[object] = []

    def all_gather(values: list[object], value: object) -> None:
        told.append(value)
        values[:] = [("device", other), value]

    monkeypatch.setattr("quant.evaluate.processes.dist", SimpleNamespace(all_gather_object=all_gather))
    second = Processes(rank=1, size=2, local_rank=1, local_size=2)
    if shared:
        with pytest.raises(QuantError, match=r"^CUDA_VISIBLE_DEVICES=GPU-1f lets several of 2 processes see "):
            second.device("cuda")
    else:
        assert second.device("cuda") == "cuda:0"
    assert told == [("device", ("here", "GPU-1f"))]


class Group:
    """Stands in for torch.distributed: notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def init_process_group(self, backend: str, rank: int, world_size: int, timeout: object) -> None:
        self.calls.append((backend, rank, world_size))

    def destroy_process_group(self) -> None:
        self.calls.append("destroyed")


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    """In an environment that no launcher has made."""
    for name in {name for names in LAUNCHERS for name in names} | {"MASTER_ADDR", *SHARDED}:
        monkeypatch.delenv(name, raising=False)
    group = Group()
    monkeypatch.setattr("quant.evaluate.processes.dist", group)
    return group


@pytest.fixture
def launched(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two processes."""
    for name, value in zip(LAUNCHERS[0], ("1", "2", "1", "2"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


@pytest.mark.parametrize("names", LAUNCHERS, ids=lambda names: names[0])
def test_a_launcher_tells_each_process_its_place(
    names: tuple[str, ...], group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(names, (5, 8, 1, 4), strict=True):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with joined() as processes:
        assert processes == Processes(rank=5, size=8, local_rank=1, local_size=4)
        assert not processes.main
        assert group.calls == [("gloo", 5, 8)]
    assert group.calls == [("gloo", 5, 8), "destroyed"]


def test_one_of_several_is_gone_when_what_was_registered_has_run_and_been_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: done.append("registered"))
    monkeypatch.setattr(os, "_exit", done.append)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, SimpleNamespace(flush=lambda name=name: done.append(name)))
    ALONE.leave(3)
    assert done == []
    Processes(1, 2).leave(3)
    assert done == ["registered", "stdout", "stderr", 3]


@pytest.mark.usefixtures("launched")
def test_a_process_that_fails_leaves_the_others(group: Group) -> None:
    """They are told at once, and so is the launcher."""
    with pytest.raises(ValueError, match="inside"), joined():
        raise ValueError("inside")
    assert group.calls == [("gloo", 1, 2), "destroyed"]


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", ""), ("WORLD_SIZE", "two"), ("RANK", None), ("LOCAL_RANK", None)]
)
def test_a_place_that_is_told_in_part_is_refused(
    name: str, value: str | None, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each process in one line, before they wait for each other."""
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    told = (
        rf"^{name} is no number, and the launcher .* {name}='{value or ''}'.*: start them with .*, or unset WORLD_SIZE$"
    )
    with pytest.raises(QuantError, match=told), joined():
        pytest.fail("went on")
    assert group.calls == []


@pytest.mark.parametrize(
    "environment",
    [{}, {"MASTER_ADDR": "here", "WORLD_SIZE": "1", "RANK": "0"}, {"PMI_SIZE": "4", "PMI_RANK": "2"}],
    ids=["none", "one process", "an MPI of its own"],
)
def test_without_a_launcher_there_is_one(
    environment: dict[str, str], group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with joined() as processes:
        assert processes is ALONE
    assert group.calls == []


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.parametrize("value", ["1", "true", "True", "YES", "on"])
def test_sharded_models_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    check_whole_models()
    for other in ("false", "0", "no", ""):
        monkeypatch.setenv(name, other)
        check_whole_models()
    monkeypatch.setenv(name, value)
    with pytest.raises(QuantError, match=f"{name} is set: .* launch with --multi_gpu"):
        check_whole_models()
