"""The command line as one of several processes: who speaks, and with which code all end. The others are stand-ins that
do the same; real ones are in `test_launched.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quant import cli
from quant.compare import Watch
from quant.evaluate.processes import Processes
from quant.records import Comparison, Request
from tests.unit.cli_runner import QUICK, Outcome, Run
from tests.unit.report.samples import COMPARISON

WRONG = ("compare", "--schemes", "int5")
MESSAGE = "quant: unknown scheme 'int5'"


class Alike:
    """Stands in for torch.distributed: every process says the same, but for their exit codes."""

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def all_gather_object(self, values: list[Any], value: tuple[str, Any]) -> None:
        values[:] = [value] * len(values)
        if value[0] == "end":
            values[-1] = ("end", self.code)


@pytest.fixture
def as_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`as_process(rank)`: the command line is that process of three; `code`: what the last one ends with."""

    def become(rank: int, code: int = 0) -> None:
        @contextmanager
        def joined() -> Iterator[Processes]:
            yield Processes(rank, 3, rank, 3)

        monkeypatch.setattr(cli, "joined", joined)
        monkeypatch.setattr("quant.evaluate.processes.dist", Alike(code))
        monkeypatch.setattr(Processes, "leave", lambda processes, code: None)

    return become


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (WRONG, MESSAGE),
        (("compare", "--no-such-option"), "quant: No such option"),
        (("inspect",), "quant: quant inspect is work for one process, and there are 3"),
        (("compare", "--device", "cuda:0"), "quant: --device cuda:0 is for one process, and there are 3"),
    ],
    ids=["scheme", "option", "command", "device"],
)
def test_the_main_process_tells_and_all_end_with_its_code(
    arguments: tuple[str, ...], message: str, run: Run, as_process: Any
) -> None:
    as_process(0)
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(message)
    assert outcome.err.count("\n") == 1
    as_process(1)
    assert run(*arguments) == Outcome(2, "", "")


def test_sharded_models_are_refused_for_several_processes(
    run: Run, as_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert run(*WRONG).err.startswith(MESSAGE)
    as_process(0)
    assert run(*WRONG).err.startswith("quant: ACCELERATE_USE_FSDP is set")


def test_a_launcher_that_does_not_say_which_process_this_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "")
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("quant: RANK is no number, and the launcher of several processes has to set all of ")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_all_end_with_the_highest_code(rank: int, run: Run, as_process: Any) -> None:
    """Something that only the last process could not do."""
    as_process(rank, code=3)
    assert run("--version").code == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_the_main_process_prints_and_writes(
    rank: int, run: Run, as_process: Any, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    seen: list[Processes] = []

    def measured(request: Request, watch: Watch, processes: Processes) -> Comparison:
        watch("baseline: perplexity", 1, 2)
        seen.append(processes)
        return replace(COMPARISON, results=tuple(COMPARISON.measured))

    monkeypatch.setattr("quant.cli.compare.compare", measured)
    as_process(rank)
    files = ("--json", tmp_path / "out.json", "--report", tmp_path / "report")
    outcome = run("compare", model_folder, "--text", text_file, *QUICK, *files)
    assert seen == [Processes(rank, 3, rank, 3)]
    assert (outcome.code, outcome.err) == (0, "")
    assert ("Accuracy against the baseline" in outcome.out) == (rank == 0)
    assert bool(outcome.out) == (rank == 0)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == (["out.json", "report"] if rank == 0 else [])


@pytest.mark.parametrize("rank", [0, 1])
def test_places_for_reports_are_looked_at_by_the_main_process(
    rank: int, run: Run, as_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine a folder need not be there."""
    looked: list[object] = []
    monkeypatch.setattr("quant.cli.compare.check_targets", lambda *places: looked.append(places))
    as_process(rank)
    assert run("compare", tmp_path / "none", "--json", tmp_path / "x").code == 2
    assert looked == ([(tmp_path / "x", None)] if rank == 0 else [])
