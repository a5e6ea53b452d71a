"""The hunt for flaky tests finds one that depends on the order, and says with which seeds."""

import re
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.flakes import hunt as hunting
from tests.flakes.hunt import command, failed_tests, hunt, main, run


def test_what_failed_is_listed_with_its_seeds_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {
        1: (0, "2 passed", 1.0),
        2: (1, "FAILED a.py::test_b - x\n1 failed", 1.0),
        3: (5, "nothing", 1.0),
        4: (1, "FAILED a.py::test_b", 1.0),
    }
    monkeypatch.setattr(hunting, "run", lambda seed, tests, folder: outputs[seed])
    assert not hunt(range(1, 5), [], tmp_path / "kept")
    printed = capsys.readouterr().out.splitlines()
    assert printed[-3:] == [
        f"2 of 4 runs: a.py::test_b (seeds 2, 4; {tmp_path / 'kept'})",
        f"1 of 4 runs: pytest ended with code 5 (seeds 3; {tmp_path / 'kept'})",
        "4 runs (seeds 1 to 4), 3 not green, 2 failures",
    ]
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "kept").iterdir()} == {
        f"{seed}.log": outputs[seed][1] for seed in (2, 3, 4)
    }
    assert hunt([1], [], tmp_path / "kept")
    assert capsys.readouterr().out.splitlines()[-1] == "1 runs (seeds 1 to 1), 0 not green, 0 failures"


SOME_TESTS = """
import os

def test_profile():
    assert os.environ["HYPOTHESIS_PROFILE"] == "random"

def test_failing():
    assert False

"""


def test_why_a_run_came_to_no_verdict_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last lines of its output, which may end in empty ones, but not of one whose failures are listed."""
    reason = [f"line {number}" for number in range(30)]
    outputs = {
        1: (0, "2 passed\n", 1.0),
        2: (1, "FAILED a.py::test_b - x\n1 failed\n", 1.0),
        3: (4, "\n".join(reason) + "\n\n", 1.0),
        4: (-9, "", 1.0),
    }
    monkeypatch.setattr(hunting, "run", lambda seed, tests, folder: outputs[seed])
    hunt(range(1, 5), [], tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:14] == [
        "seed 1: code 0 after 1 s: 2 passed",
        "seed 2: code 1 after 1 s: 1 failed",
        "seed 3: code 4 after 1 s: line 29",
        *(f"    {line}" for line in reason[-10:]),
        "seed 4: code -9 after 1 s: ",
    ]
    assert not any(line.startswith(" ") for line in printed[14:])


@pytest.mark.skipif(not find_spec("random_order"), reason="needs pytest-random-order (extra `mutation`)")
def test_a_run_is_shuffled_by_its_seed_in_the_random_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output is read, so it has no colours, which hide what failed."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("PY_COLORS", "1")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: none\n", encoding="utf-8")
    numbered = "".join(f"def test_{n}(): pass\n" for n in range(9))
    (tmp_path / "test_some.py").write_text(SOME_TESTS + numbered, encoding="utf-8")
    orders = []
    for seed in (7, 7, 8):
        code, output, _ = run(seed, ["-vv"], tmp_path)
        assert code == 1, output
        assert failed_tests(output) == ["test_some.py::test_failing"], output
        orders.append(re.findall(r"^test_some\.py::test_(\d)", output, re.MULTILINE))
        assert sorted(orders[-1]) == list("012345678")
    first, again, other = orders
    assert first == again
    assert len({tuple(first), tuple(other), tuple(sorted(first))}) == 3


def test_the_seed_is_part_of_the_command() -> None:
    assert "--random-order-seed=7" in command(7, ["tests/unit"])
    assert command(7, ["tests/unit"])[-1] == "tests/unit"


def test_failures_and_errors_are_read_from_the_summary() -> None:
    output = (
        "x\nFAILED tests/a.py::test_b[c d-e] - AssertionError: 1 - 2\nERROR tests/a.py::test_d\n"
        "FAILED tests/a.py::test_b[c d-e]\n"
    )
    assert failed_tests(output) == ["tests/a.py::test_b[c d-e]", "tests/a.py::test_d"]


def test_so_many_runs_as_asked_for_share_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first three wait for each other, so that fewer would never end; their lines come in the order of seeds."""
    together = threading.Barrier(3)

    def fake(seed: int, tests: object, folder: object) -> tuple[int, str, float]:
        together.wait(timeout=60)
        return 0, f"output {seed}", 1.0

    monkeypatch.setattr(hunting, "run", fake)
    assert hunt(range(1, 7), [], tmp_path, at_once=3)
    lines = [f"seed {seed}: code 0 after 1 s: output {seed}" for seed in range(1, 7)]
    assert capsys.readouterr().out.splitlines()[:-1] == lines


@pytest.mark.parametrize("option", ["--times", "--at-once"])
def test_a_hunt_of_no_runs_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option, "0"])
    assert ended.value.code == 2
    assert "--times and --at-once are at least 1" in capsys.readouterr().err


def test_a_hunt_without_the_plugin_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hunting, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["--times", "1", "tests/unit/report"])
    assert ended.value.code == 2
    assert "pip install -c constraints.txt -e '.[mutation]'" in capsys.readouterr().err
