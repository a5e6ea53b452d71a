"""Measuring the limits of ratios: from sessions of its own, with a stand-in for them here, or from stored runs."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks.gating import measure
from tests.benchmarks.gating.file import read
from tests.benchmarks.gating.measure import take_series, write_limits
from tests.benchmarks.gating.ratios import Pair
from tests.unit.benchmarks.runs import KEY, SOFTWARE, run

PAIRS = [Pair("a / b", "a", "b", "noisy"), Pair("c / b", "c", "b", "noisy"), Pair("d / b", "d", "b", "still")]
TIMES = [0.5, 0.51, 0.49, 0.505, 0.495, 0.502, 0.498, 0.507, 0.493, 0.5]
"""Of a in ten runs, where b takes 1, and c and d 2."""
RUNS = [run({"a": time, "b": 1.0, "c": 2.0, "d": 2.0}) for time in TIMES]

Main = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """A function of the command's arguments that runs it, where `PAIRS` are all there is, and returns what it wrote."""
    ratios = tmp_path / "ratios.json"
    monkeypatch.setitem(sys.modules, "tests.benchmarks.pairs", SimpleNamespace(all_pairs=lambda: PAIRS))

    def call(*arguments: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["measure.py", *arguments, f"--ratios={ratios}"])
        measure.main()
        return read(ratios)

    return call


def stored(folder: Path, runs: Sequence[dict[str, Any]]) -> list[str]:
    """The files of these runs."""
    files = [folder / f"stored-{index}.json" for index in range(len(runs))]
    for file, each in zip(files, runs, strict=True):
        file.write_text(json.dumps(each), encoding="utf-8")
    return list(map(str, files))


def changed(index: int, **software: object) -> list[dict[str, Any]]:
    """`RUNS`, of which one has other versions."""
    other = {**RUNS[index], "machine_info": {"quant": KEY, "software": {**SOFTWARE, **software}}}
    return [*RUNS[:index], other, *RUNS[index + 1 :]]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the sessions that were run: the nth of them writes the nth of `RUNS`."""
    found: list[list[str]] = []

    def session(command: list[str], *, check: bool) -> None:
        assert check
        target(command).write_text(json.dumps(RUNS[len(found)]), encoding="utf-8")
        found.append(command)

    monkeypatch.setattr(subprocess, "run", session)
    return found


def target(command: list[str]) -> Path:
    """The file that a session writes."""
    (file,) = (option.partition("=")[2] for option in command if option.startswith("--benchmark-json="))
    return Path(file)


def test_as_many_sessions_as_asked_for_time_each_benchmark_of_a_pair_once(
    main: Main, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (machine,) = main("--runs=10")
    assert len(commands) == 10
    for command in commands:
        assert command[:3] == [sys.executable, "-m", "pytest"]
        assert {"--benchmark-only", "--benchmark-gate=off"} < set(command)
        assert [argument for argument in command[3:] if not argument.startswith("-")] == ["a", "b", "c", "d"]
    assert machine["ratios"]["a / b"]["values"] == TIMES
    assert machine["provenance"]["command"].startswith("python -m tests.benchmarks.gating.measure --runs=10 ")
    # c / b is 2 in every run: it has the deviation of its class, and a / b its own, which is larger by sqrt(2).
    sees = {name: ratio["limit"] / ratio["measured"] - 1 for name, ratio in machine["ratios"].items()}
    catches = {name: ratio["catches"] for name, ratio in machine["ratios"].items()}
    middle = (sees["a / b"] + sees["c / b"]) / 2, (catches["a / b"] + catches["c / b"]) / 2
    assert 0 < sees["c / b"] < sees["a / b"]
    assert capsys.readouterr().out.splitlines() == [
        f"noisy, deviation 0.9%: a slowdown is seen in every second run from {middle[0]:.1%} on (median), "
        f"{sees['a / b']:.1%} at worst (a / b), and caught from {middle[1]:.1%} on, {catches['a / b']:.1%} at worst",
        "still, deviation 0.0%: a slowdown is seen in every second run from 0.0% on (median), "
        "0.0% at worst (d / b), and caught from 0.0% on, 0.0% at worst",
    ]


def test_a_session_that_fails_ends_it_and_writes_nothing(
    main: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, failing = subprocess.run, [sys.executable, "-S", "-c", "raise SystemExit(1)"]
    monkeypatch.setattr(subprocess, "run", lambda command, **options: real(failing, **options))
    with pytest.raises(subprocess.CalledProcessError):
        main()
    assert not (tmp_path / "ratios.json").exists()


def test_a_folder_keeps_the_runs_and_only_those_it_lacks_are_taken(
    main: Main, commands: list[list[str]], tmp_path: Path
) -> None:
    """Of run-0 to run-9 the third is missing, the fifth was cut off and the last lacks a pair."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for index, each in enumerate(RUNS):
        (folder / f"run-{index}.json").write_text(json.dumps(each), encoding="utf-8")
    (folder / "run-2.json").unlink()
    (folder / "run-4.json").write_text(json.dumps(RUNS[4])[:99], encoding="utf-8")
    (folder / "run-9.json").write_text(json.dumps(run({"a": 0.5, "b": 1.0})), encoding="utf-8")
    (machine,) = main(f"--folder={folder}")
    assert [target(command).stem for command in commands] == ["run-2", "run-4", "run-9"]
    expected = [*TIMES]
    expected[2], expected[4], expected[9] = TIMES[:3]
    assert machine["ratios"]["a / b"]["values"] == expected
    assert sorted(file.name for file in folder.iterdir()) == [f"run-{index}.json" for index in range(10)]
    main(f"--folder={folder}")
    assert len(commands) == 3


def test_a_session_that_was_stopped_is_taken_again(main: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It leaves a file with every pair, under another name, which the next call must not take for a run."""
    stops, written = [True], []

    def session(command: list[str], *, check: bool) -> None:
        written.append(target(command).stem)
        target(command).write_text(json.dumps(RUNS[0]), encoding="utf-8")
        if len(written) == 3 and stops.pop():
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", session)
    folder = tmp_path / "not" / "there"
    with pytest.raises(KeyboardInterrupt):
        main(f"--folder={folder}")
    assert [(folder / f"run-{index}.json").exists() for index in range(4)] == [True, True, False, False]
    assert not (tmp_path / "ratios.json").exists()
    (machine,) = main(f"--folder={folder}")
    assert written == ["run-0", "run-1", "run-2", *(f"run-{index}" for index in range(2, 10))]
    assert machine["provenance"]["runs"] == 10


def test_runs_come_from_sessions_or_from_files(
    main: Main, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(subprocess, "run")
    with pytest.raises(SystemExit, match="2"):
        main(f"--folder={tmp_path}", "--from", *stored(tmp_path, RUNS))
    assert "not allowed with argument" in capsys.readouterr().err


def test_too_few_sessions_are_refused_before_the_first(
    main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(subprocess, "run")
    with pytest.raises(SystemExit, match="2"):
        main("--runs=9")
    assert "9 runs are too few to know their spread: 10 or more" in capsys.readouterr().err


def test_stored_runs_are_taken_as_they_are(main: Main, tmp_path: Path) -> None:
    (machine,) = main("--from", *stored(tmp_path, RUNS))
    assert machine["key"] == KEY
    assert machine["ratios"]["a / b"]["values"] == TIMES
    assert machine["provenance"]["runs"] == 10


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        pytest.param(RUNS[:9], "9 runs are too few", id="few"),
        pytest.param([*RUNS[:9], {}], "stored-9.json is not a stored run", id="no run"),
        pytest.param(
            [*RUNS[:9], run({"a": 1, "b": 1, "c": 1, "d": 1}, threads=9)], "threads: 9 there, 2 here", id="machine"
        ),
        pytest.param(changed(3, python="3.12.1"), "python: '3.12.1' there, '3.11.7' here", id="python"),
        pytest.param(changed(9, transformers="6.0"), "transformers: '6.0' there, '5.23.0' here", id="package"),
        pytest.param([*RUNS[:9], run({"a": 1, "b": 1, "d": 1})], "not in every run: c / b", id="pair"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(
    runs: list[dict[str, Any]], says: str, main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main("--from", *stored(tmp_path, runs))
    assert says in capsys.readouterr().err
    assert not (tmp_path / "ratios.json").exists()


@pytest.mark.parametrize(("field", "named"), [("quant", "machine"), ("software", "set of versions")])
def test_runs_that_do_not_say_where_they_are_from_are_refused(field: str, named: str, tmp_path: Path) -> None:
    info = {name: value for name, value in RUNS[0]["machine_info"].items() if name != field}
    runs = [{**each, "machine_info": info} for each in RUNS]
    with pytest.raises(ValueError, match=f"not of one {named}: they do not record it"):
        write_limits(runs, PAIRS, "the command", tmp_path / "ratios.json")


def test_the_provenance_is_that_of_the_runs(tmp_path: Path) -> None:
    commits = [{"id": "c0ffee", "dirty": True}, {"id": None, "dirty": False}]
    runs = [{**each, "commit_info": commit} for each, commit in zip(RUNS, commits * 5, strict=True)]
    runs[0]["datetime"] = "2026-01-03T00:00:00"
    write_limits(runs, PAIRS, "the command", tmp_path / "ratios.json")
    (machine,) = read(tmp_path / "ratios.json")
    assert machine["provenance"] == {
        "dates": ["2026-01-02", "2026-01-03"],
        "commits": ["c0ffee+", "unknown"],
        "command": "the command",
        "runs": 10,
        "python": "3.11.7",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "bitsandbytes": None},
    }


def test_the_figures_of_a_ratio_are_those_of_its_values(tmp_path: Path) -> None:
    machine = write_limits(RUNS, PAIRS, "the command", tmp_path / "ratios.json")
    assert read(tmp_path / "ratios.json") == [machine]
    figures = machine["ratios"]["a / b"]
    assert figures["values"] == TIMES
    assert figures["spread"] == pytest.approx(0.51 / 0.49 - 1, abs=1e-3)
    assert figures["catches"] == pytest.approx(figures["limit"] / figures["stale_below"] - 1, rel=0.01)
    assert figures["stale_below"] < 0.49
    assert figures["limit"] > 0.51
    assert (figures["group"], figures["denominator"]) == ("noisy", "b")
    assert machine["ratios"]["d / b"]["catches"] == 0


def test_every_run_must_have_every_pair() -> None:
    with pytest.raises(ValueError, match="not in every run: a / b"):
        take_series([*RUNS, run({"b": 1, "c": 1, "d": 1})], PAIRS)
