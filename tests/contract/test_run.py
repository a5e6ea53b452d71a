"""How the suite runs: in several processes where that is quicker, and telling of tests that are slow by accident."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import conftest

ROOT = Path(__file__).parents[2]
FILE, TEST = "tests/contract/test_run.py", "tests/contract/test_run.py::test_x"


def run_pytest(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pytest.ini", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Options without the root's conftest, which imports torch in every process, and without plugins that are not
    needed.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return "-p", "quant.pytest_plugin", "-p", "xdist"


def processes(monkeypatch: pytest.MonkeyPatch, arguments: list[str], cores: int, gpu: bool, **options: Any) -> int:
    """What `-n auto` becomes on a machine with so many cores, with a GPU or without."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(cores), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    timings = {f"benchmark_{name}": None for name in conftest.TIMING_OPTIONS}
    option = SimpleNamespace(**{"markexpr": "", **timings, **options})
    config: Any = SimpleNamespace(args=arguments, option=option, getoption=lambda name: getattr(option, name))
    return conftest.pytest_xdist_auto_num_workers(config)


@pytest.mark.parametrize(
    ("arguments", "cores", "expected"),
    [
        pytest.param(["tests", "README.md"], 2, 2, id="the whole suite"),
        pytest.param([FILE, "tests/unit"], 3, 3, id="a folder beside a file"),
        pytest.param(["tests"], 64, conftest.MOST_PROCESSES, id="many cores"),
        pytest.param([FILE, "README.md"], 2, 0, id="files"),
        pytest.param([TEST], 2, 0, id="one test"),
    ],
)
def test_folders_run_on_all_cores(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], cores: int, expected: int
) -> None:
    assert processes(monkeypatch, arguments, cores, gpu=False) == expected


@pytest.mark.parametrize("name", conftest.TIMING_OPTIONS)
def test_timings_have_the_machine_to_themselves(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert processes(monkeypatch, ["tests/benchmarks"], 2, gpu=False, **{f"benchmark_{name}": True}) == 0


@pytest.mark.parametrize(("markexpr", "expected"), [("gpu", 0), ("", 0), ("not gpu", 4)])
def test_one_process_uses_the_gpu(monkeypatch: pytest.MonkeyPatch, markexpr: str, expected: int) -> None:
    assert processes(monkeypatch, ["tests"], 4, gpu=True, markexpr=markexpr) == expected


def test_a_rehearsal_of_the_tests_on_the_gpu_is_one_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes(monkeypatch, ["tests"], 4, gpu=False, markexpr="gpu") == 0


def test_selecting_nothing_fails_in_several_processes_too(tmp_path: Path, light: tuple[object, ...]) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(): assert 1 == 1", encoding="utf-8")
    several = [*light, "--rootdir", tmp_path, "-n", "2", tmp_path]
    done = run_pytest("-k", "nothing_has_this_name", *several)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr
    assert "2 workers" in done.stdout
    assert run_pytest("-k", "test_one", *several).returncode == pytest.ExitCode.OK


def test_options_of_the_environment_reach_every_process_but_no_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI measures coverage this way: processes that do not know of it measure nothing, and the total is too low."""
    (tmp_path / "measured.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    program = (
        "import os, measured\ndef test_it(): assert measured.double(1) == 2 and 'PYTEST_ADDOPTS' not in os.environ"
    )
    (tmp_path / "test_one.py").write_text(program, encoding="utf-8")
    (tmp_path / "coveragerc").write_text("[run]\nparallel = true\n", encoding="utf-8")
    options = f"--cov=measured --cov-config={tmp_path}/coveragerc --cov-fail-under=100"
    monkeypatch.setenv("PYTEST_ADDOPTS", options)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COVERAGE_FILE", str(tmp_path / "coverage"))
    plugins = ["conftest", "quant.pytest_plugin", "pytest_cov", "xdist", "pytest_benchmark.plugin"]
    loaded = [part for name in plugins for part in ("-p", name)]
    done = run_pytest(*loaded, "--rootdir", tmp_path, "-n", "2", tmp_path / "test_one.py")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "Total coverage: 100.00%" in done.stdout


SLOW_AND_QUICK = """
import subprocess, sys, time
import pytest
from tests import slow_tests

slow_tests.SLOW = 0.25

def burn(seconds=0.3):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

@pytest.fixture(scope="module")
def burnt(): burn()

def test_unmarked(): burn()

def test_fixture(burnt): pass

def test_subprocess():
    program = "import time\\nwhile time.process_time() < 0.6: pass"
    subprocess.run([sys.executable, "-S", "-c", program], check=True)

@pytest.mark.slow
def test_marked(): burn()

def test_asleep(): time.sleep(0.7)

def test_failed():
    burn()
    raise KeyError("its own")
"""
"""CPU time counts, a fixture's and a subprocess' too; time that is slept away does not."""


@pytest.fixture
def slow_suite(tmp_path: Path, light: tuple[object, ...]) -> tuple[object, ...]:
    """Options that run `SLOW_AND_QUICK`."""
    (tmp_path / "test_slow.py").write_text(SLOW_AND_QUICK, encoding="utf-8")
    return *light, "-p", "tests.slow_tests", "--rootdir", tmp_path, tmp_path / "test_slow.py"


def test_a_test_that_is_slow_fails_where_asked_unless_it_is_marked(
    tmp_path: Path, slow_suite: tuple[object, ...]
) -> None:
    results = tmp_path / "results.xml"
    done = run_pytest(*slow_suite, "-n", "0", "--slow-tests=fail", "--junit-xml", results)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    cases = ElementTree.parse(results).iter("testcase")
    failures = {case.get("name"): [failure.get("message", "") for failure in case.iter("failure")] for case in cases}
    assert len(failures) == 6
    assert {name for name, messages in failures.items() if not messages} == {"test_marked", "test_asleep"}
    assert "its own" in failures["test_failed"][0]
    slow = {name for name, messages in failures.items() if any("s of CPU time" in message for message in messages)}
    assert slow == {"test_unmarked", "test_fixture", "test_subprocess"}
    assert "slow tests:" not in done.stdout


@pytest.mark.parametrize("workers", [0, 2])
def test_slow_tests_of_all_processes_are_listed_and_pass_otherwise(
    workers: int, slow_suite: tuple[object, ...]
) -> None:
    done = run_pytest(*slow_suite, "-n", workers, "--deselect=test_slow.py::test_failed")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert (f"{workers} workers" in done.stdout) == (workers > 0)
    listed = re.findall(r"^(\d\.\d) s of CPU time: test_slow.py::(\w+)$", done.stdout, re.MULTILINE)
    assert [float(taken) for taken, _ in listed] == sorted((float(taken) for taken, _ in listed), reverse=True)
    assert listed[0][1] == "test_subprocess"
    assert sorted(name for _, name in listed) == ["test_fixture", "test_subprocess", "test_unmarked"]
